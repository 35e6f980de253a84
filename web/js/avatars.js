// Kept avatars: analysed once, chosen in place of a file.

import { request, ROOT } from "./api.js";
import { ask } from "./confirm.js";
import { h, notice } from "./dom.js";
import { onLanguage, t } from "./i18n.js";
import { showThumbnail } from "./thumbnail.js";

const LOOK_MS = 3000;

/** The row of kept avatars. */
export class Avatars {
  /** @param onChange Called with the chosen avatar, null for none. @param onLoaded Called with it as it is now. */
  constructor(place, onChange, onLoaded) {
    Object.assign(this, { place, onChange, onLoaded });
    this.avatars = [];
    this.pictures = new Map();
    this.chosen = null;
    this.error = h("p", { class: "notice bad", role: "alert", hidden: true });
    onLanguage(() => this.show());
  }

  /** Ask the service which there are. */
  async refresh() {
    this.avatars = (await request("GET", "/v1/avatars")).avatars;
    // Keep a valid choice as it is: choosing again would clear the messages of the form.
    if (this.chosen && !this.avatars.some((avatar) => avatar.id === this.chosen.id)) this.choose(null);
    this.show();
    const now = this.chosen && this.avatars.find((avatar) => avatar.id === this.chosen.id);
    if (now) this.onLoaded(now);
    this.lookLater();
  }

  /** Ask again later if an avatar or a clip is being analysed. */
  lookLater() {
    clearTimeout(this.timer);
    if (!this.avatars.some((avatar) => [avatar, ...avatar.clips].some(({ status }) => status === "analysing"))) return;
    this.timer = setTimeout(() => this.refresh().catch(() => this.lookLater()), LOOK_MS);
  }

  choose(avatar) {
    this.chosen = avatar;
    this.show();
    this.onChange(avatar);
  }

  show() {
    const focused = [...this.place.querySelectorAll("button")].indexOf(document.activeElement);
    const cards = this.avatars.map((avatar) => this.card(avatar));
    const none = h("button", { type: "button", class: "face", "aria-pressed": String(!this.chosen), onclick: () => this.choose(null) },
      h("span", { class: "thumb", "aria-hidden": "true" }, "+"), h("span", { class: "name" }, t("newFace")));
    this.place.hidden = cards.length === 0;
    const list = h("ul", { class: "faces" }, h("li", {}, none), cards);
    this.place.replaceChildren(h("p", { class: "hint" }, t("avatars")), list, this.error);
    this.place.querySelectorAll("button")[focused]?.focus({ preventScroll: true });
  }

  card(avatar) {
    const name = avatar.label || avatar.id.slice(0, 8);
    const state = { analysing: t("avatarAnalysing"), failed: t("avatarFailed") }[avatar.status];
    return h("li", {},
      h("button", {
        type: "button",
        class: "face",
        "aria-pressed": String(avatar.id === this.chosen?.id),
        title: avatar.error?.message ?? name,
        disabled: avatar.status === "failed",
        onclick: () => this.choose(avatar),
      }, this.picture(avatar), h("span", { class: "name" }, name), state && h("span", { class: "state" }, state)),
      h("button", { type: "button", class: "quiet close", "aria-label": t("deleteAvatar", { name }), onclick: () => this.remove(avatar, name) }, "✕"));
  }

  /** The avatar's picture; it is fetched once and moves from card to card. */
  picture(avatar) {
    if (!this.pictures.has(avatar.id)) {
      const picture = h("span", { class: "thumb" });
      this.pictures.set(avatar.id, picture);
      showThumbnail(`${ROOT}/v1/avatars/${avatar.id}/source`, picture);
    }
    return this.pictures.get(avatar.id);
  }

  async remove(avatar, name) {
    if (!(await ask(t("confirmAvatar", { name })))) return;
    notice(this.error, "");
    try {
      await request("DELETE", `/v1/avatars/${avatar.id}`);
      await this.refresh();
    } catch (error) {
      notice(this.error, error.message);
    }
  }
}
