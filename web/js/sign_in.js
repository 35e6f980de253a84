// Signing in: an API key is shown once, and a cookie that scripts cannot read stands for it.

import { request } from "./api.js";
import { byId, notice } from "./dom.js";
import { t } from "./i18n.js";

let pending = null;

/** Resolves when the service lets this page in; asks for a key where it has to. Raises `ApiError`. */
export async function signedIn() {
  try {
    show(await request("GET", "/v1/session"));
  } catch (error) {
    if (error.status !== 401) throw error;
    await askForKey();
  }
}

/** Ask for a key until one is right. Several callers share one dialog. */
export function askForKey() {
  pending ??= new Promise((resolve) => {
    const dialog = byId("sign-in");
    notice(byId("sign-in-error"), "");
    dialog.oncancel = (event) => event.preventDefault();
    dialog.querySelector("form").onsubmit = async (event) => {
      event.preventDefault();
      const key = byId("key").value.trim();
      if (!key) return;
      try {
        show(await request("POST", "/v1/session", { headers: { Authorization: `Bearer ${key}` } }));
      } catch (error) {
        notice(byId("sign-in-error"), error.status === 401 ? t("badKey") : error.message);
        return;
      }
      byId("key").value = "";
      dialog.close();
      pending = null;
      resolve();
    };
    dialog.showModal();
  });
  return pending;
}

/** Sign out and reload the page. */
export async function signOut() {
  await request("DELETE", "/v1/session");
  location.reload();
}

function show(session) {
  byId("sign-out").hidden = byId("usage").hidden = !session.needs_key;
}
