// The speech of a job: an audio file, or text if the service has a voice.

import { request } from "./api.js";
import { h } from "./dom.js";
import { onLanguage, t } from "./i18n.js";
import { FilePicker } from "./file_picker.js";

/** The speech input of the form. */
export class SpeechInput {
  /**
   * @param place The element to fill.
   * @param onChange Called after each change.
   */
  constructor(place, onChange) {
    this.voice = { is_available: false, voices: [], default: null, max_chars: 0 };
    this.isText = false;
    const sound = h("div");
    this.sound = sound;
    this.kinds = h("div", { class: "kinds", role: "group", hidden: true });
    this.written = h("div", { class: "fields", hidden: true });
    place.append(this.kinds, sound, this.written);
    this.picker = new FilePicker(sound, "audio", onChange);
    this.text = h("textarea", { id: "text", rows: 5, oninput: onChange });
    this.voiceName = h("input", { type: "text", id: "voice", list: "voices", autocomplete: "off", spellcheck: false });
    this.voiceNames = h("datalist", { id: "voices" });
    this.show();
    onLanguage(() => this.show());
  }

  /** Load the voices. */
  async refresh() {
    this.voice = await request("GET", "/v1/voices");
    if (!this.voice.is_available) this.isText = false;
    this.show();
  }

  /** Take an audio file in place of what is there. */
  take(file) {
    this.isText = false;
    this.show();
    this.picker.take(file);
  }

  /** Whether the input is filled in. */
  get isGiven() {
    return this.isText ? this.text.value.trim() !== "" : Boolean(this.picker.file);
  }

  /** The fields of the form. */
  get fields() {
    return this.isText ? { text: this.text.value, voice: this.voiceName.value.trim() } : { audio: this.picker.file };
  }

  show() {
    this.kinds.hidden = !this.voice.is_available;
    this.kinds.setAttribute("aria-label", t("speechKind"));
    this.kinds.replaceChildren(this.kind(false, t("kindSound")), this.kind(true, t("kindText")));
    this.sound.hidden = this.isText;
    this.written.hidden = !this.isText;
    this.text.maxLength = this.voice.max_chars;
    this.voiceName.placeholder = this.voice.default ?? "";
    this.written.replaceChildren(
      h("label", {}, h("span", {}, t("textLabel")), this.text),
      h("p", { class: "hint" }, t("textHint", { number: this.voice.max_chars })),
      h("label", {}, h("span", {}, t("voiceLabel")), this.voiceName, this.voiceNames));
    this.voiceNames.replaceChildren(...this.voice.voices.map((value) => h("option", { value })));
  }

  kind(isText, title) {
    return h("button", {
      type: "button",
      class: "quiet",
      "aria-pressed": String(this.isText === isText),
      onclick: () => {
        this.isText = isText;
        this.show();
        this.kinds.querySelector('[aria-pressed="true"]').focus();
      },
    }, title);
  }
}
