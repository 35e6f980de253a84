// Kept presenters: analysed once, chosen in place of a file.

import { request, ROOT } from "./api.js";
import { ask } from "./confirm.js";
import { h } from "./dom.js";
import { onLanguage, t } from "./i18n.js";

const LOOK_MS = 3000;

/** The row of kept presenters. */
export class Presenters {
  /** @param onChange Called with the chosen presenter, null for none. */
  constructor(place, onChange) {
    this.place = place;
    this.onChange = onChange;
    this.avatars = [];
    this.chosen = null;
    onLanguage(() => this.show());
  }

  /** Ask the service which there are. */
  async refresh() {
    clearTimeout(this.timer);
    this.avatars = (await request("GET", "/v1/avatars")).avatars;
    if (!this.avatars.some((avatar) => avatar.id === this.chosen?.id)) this.choose(null);
    this.show();
    if (this.avatars.some((avatar) => avatar.status === "analysing")) {
      this.timer = setTimeout(() => this.refresh().catch(() => {}), LOOK_MS);
    }
  }

  choose(avatar) {
    this.chosen = avatar;
    this.show();
    this.onChange(avatar);
  }

  show() {
    const cards = this.avatars.map((avatar) => this.card(avatar));
    this.place.hidden = cards.length === 0;
    this.place.replaceChildren(h("p", { class: "hint" }, t("presenters")), h("ul", { class: "faces" }, cards));
  }

  card(avatar) {
    const name = avatar.label || avatar.id.slice(0, 8);
    const isChosen = avatar.id === this.chosen?.id;
    const source = `${ROOT}/v1/avatars/${avatar.id}/source`;
    const picture = avatar.info?.is_still ? h("img", { src: source, alt: "", loading: "lazy" })
      : h("video", { src: `${source}#t=0.1`, muted: true, playsInline: true, preload: "metadata", tabIndex: -1, "aria-hidden": "true" });
    const label = avatar.status === "analysing" ? t("presenterAnalysing", { name })
      : avatar.status === "failed" ? t("presenterFailed", { name })
      : isChosen ? t("presenterChosen", { name }) : name;
    return h("li", {},
      h("button", {
        type: "button",
        class: "face",
        "aria-pressed": String(isChosen),
        "aria-label": label,
        title: avatar.error?.message ?? name,
        disabled: avatar.status === "failed",
        onclick: () => this.choose(isChosen ? null : avatar),
      }, picture, h("span", {}, label)),
      h("button", { type: "button", class: "quiet close", "aria-label": t("deletePresenter", { name }), onclick: () => this.remove(avatar, name) }, "✕"));
  }

  async remove(avatar, name) {
    if (!(await ask(t("confirmPresenter", { name })))) return;
    await request("DELETE", `/v1/avatars/${avatar.id}`);
    await this.refresh();
  }
}
