// The clips of the chosen avatar: further videos of the same person.

import { request, ROOT, send } from "./api.js";
import { ask } from "./confirm.js";
import { h, notice } from "./dom.js";
import { FilePicker, isVideo } from "./file_picker.js";
import { onLanguage, t } from "./i18n.js";

const KINDS = { action: "clipAction", idle: "clipIdle", talk: "clipTalk" };

/** A strip of clips, and a form that adds one. */
export class Clips {
  /** @param place The element to fill. @param onChange Called after a change, to read the avatars again. */
  constructor(place, onChange) {
    Object.assign(this, { place, onChange, avatar: null });
    this.list = h("ul", { class: "faces clips" });
    this.failures = h("div", { role: "status" });
    this.name = h("input", { type: "text", id: "clip-name", maxLength: 32, autocomplete: "off", spellcheck: false });
    this.name.addEventListener("keydown", (event) => {
      if (event.key !== "Enter") return; // it would submit the form of the job
      event.preventDefault();
      this.add();
    });
    this.kind = h("select", { id: "clip-kind" },
      Object.entries(KINDS).map(([value, key]) => h("option", { value, "data-text": key }, t(key))));
    const file = h("div");
    this.picker = new FilePicker(file, "clip");
    this.button = h("button", { type: "button", id: "clip-add", "data-text": "addClip", onclick: () => this.add() }, t("addClip"));
    this.error = h("p", { class: "notice bad", role: "alert", hidden: true });
    this.summary = h("summary", { "data-text": "clips" }, t("clips"));
    place.append(h("details", { class: "avatar-clips" }, this.summary,
      h("p", { class: "hint", "data-text": "clipsHint" }, t("clipsHint")), this.list, this.failures,
      h("div", { class: "fields pair" },
        h("label", {}, h("span", { "data-text": "clipName" }, t("clipName")), this.name),
        h("label", {}, h("span", { "data-text": "clipKind" }, t("clipKind")), this.kind)),
      file, this.error, this.button));
    onLanguage(() => this.show());
    this.use(null);
  }

  /** Show the clips of an avatar; null for none. */
  use(avatar) {
    if (avatar?.id !== this.avatar?.id) notice(this.error, "");
    this.avatar = avatar;
    this.place.hidden = !avatar || !isVideo(avatar);
    this.show();
  }

  show() {
    const shown = JSON.stringify([this.avatar?.id, this.avatar?.clips, document.documentElement.lang]);
    if (this.list.dataset.shown === shown) return; // keeps the focus, and what is played
    this.list.dataset.shown = shown;
    const hadFocus = this.list.contains(document.activeElement);
    this.list.replaceChildren(...(this.avatar?.clips ?? []).map((clip) => this.card(clip)));
    this.list.hidden = !this.list.childElementCount;
    const failed = (this.avatar?.clips ?? []).filter(({ error }) => error);
    this.failures.replaceChildren(...failed.map(({ name, error }) => h("p", { class: "notice bad" }, `${name}: ${error.message}`)));
    if (hadFocus) this.summary.focus({ preventScroll: true });
  }

  card({ name, kind, status, error, thumbnail }) {
    const state = { analysing: t("avatarAnalysing"), failed: t("avatarFailed") }[status] ?? t(KINDS[kind]);
    const picture = thumbnail && h("img", { src: thumbnail, alt: "" });
    const place = h("span", { class: "thumb" }, picture);
    const film = h("video", { muted: true, loop: true, playsInline: true, poster: thumbnail ?? "" });
    const play = () => {
      if (!picture || film.isConnected) return;
      film.src = `${ROOT}/v1/avatars/${this.avatar.id}/clips/${name}/source`;
      place.replaceChildren(film);
      film.play().catch(() => {}); // a film that this browser cannot show stays a picture
    };
    const stop = () => {
      if (!film.isConnected) return;
      film.removeAttribute("src");
      film.load(); // gives the connection back
      place.replaceChildren(picture);
    };
    return h("li", {},
      h("button", { type: "button", class: "face", title: error?.message ?? name, onmouseenter: play, onfocus: play, onclick: play, onmouseleave: stop, onblur: stop },
        place, h("span", { class: "name" }, name), h("span", { class: "state" }, state)),
      h("button", { type: "button", class: "quiet close", "aria-label": t("deleteClip", { name }), onclick: () => this.remove(name) }, "✕"));
  }

  add() {
    const name = this.name.value.trim();
    if (!/^[a-z0-9_-]+$/.test(name)) return notice(this.error, t("needClipName"));
    if (!this.picker.file) return notice(this.error, t("needClip"));
    const fields = { name, kind: this.kind.value, video: this.picker.file };
    return this.change(async () => {
      await send(`/v1/avatars/${this.avatar.id}/clips`, fields, () => {});
      this.name.value = "";
      this.picker.take(null);
    });
  }

  async remove(name) {
    const path = `/v1/avatars/${this.avatar.id}/clips/${name}`;
    if (await ask(t("confirmClip", { name }))) await this.change(() => request("DELETE", path));
  }

  /** Change the clips with `work`, one change at a time. */
  async change(work) {
    notice(this.error, "");
    this.button.disabled = true;
    try {
      await work();
      await this.onChange();
    } catch (refused) {
      notice(this.error, refused.message);
    } finally {
      this.button.disabled = false;
      if (document.activeElement === document.body) this.summary.focus({ preventScroll: true });
    }
  }
}
