// Asks for confirmation before something is deleted permanently.

import { byId } from "./dom.js";

/** Ask `text` in a dialog; whether the answer was yes. */
export function ask(text) {
  const dialog = byId("confirm");
  byId("confirm-text").textContent = text;
  dialog.returnValue = "no";
  dialog.showModal();
  return new Promise((resolve) => dialog.addEventListener("close", () => resolve(dialog.returnValue === "yes"), { once: true }));
}
