// The speech of a job: an audio file, or text if the service has a voice, or a translation of what the video says.

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
    this.voice = { is_available: false, voices: [], default: null, max_chars: 0, can_translate: false };
    this.kind = "sound"; // or "text" or "translation"
    this.onChange = onChange;
    const sound = h("div");
    this.sound = sound;
    this.kinds = h("div", { class: "kinds", role: "group", hidden: true });
    this.written = h("div", { class: "fields", hidden: true });
    this.translated = h("div", { class: "fields", hidden: true });
    place.append(this.kinds, sound, this.written, this.translated);
    this.picker = new FilePicker(sound, "audio", onChange);
    this.text = h("textarea", { id: "text", rows: 5, oninput: onChange });
    this.voiceName = h("input", { type: "text", id: "voice", list: "voices", autocomplete: "off", spellcheck: false });
    this.voiceNames = h("datalist", { id: "voices" });
    this.language = h("input", { type: "text", id: "translate-to", maxLength: 64, autocomplete: "off", oninput: onChange });
    this.review = h("input", { type: "checkbox", id: "review-translation", checked: true });
    this.show();
    onLanguage(() => this.show());
  }

  /** Load the voices. */
  async refresh() {
    this.voice = await request("GET", "/v1/voices");
    if (!this.offered.includes(this.kind)) this.kind = "sound";
    this.show();
  }

  /** Take an audio file in place of what is there. */
  take(file) {
    this.kind = "sound";
    this.show();
    this.picker.take(file);
  }

  /** The kinds of speech that the service can use. */
  get offered() {
    return ["sound", ...(this.voice.is_available ? ["text"] : []), ...(this.voice.can_translate ? ["translation"] : [])];
  }

  /** Whether the input is filled in. */
  get isGiven() {
    if (this.kind === "sound") return Boolean(this.picker.file);
    return (this.kind === "text" ? this.text : this.language).value.trim() !== "";
  }

  /** The fields of the form. */
  get fields() {
    if (this.kind === "sound") return { audio: this.picker.file };
    if (this.kind === "text") return { text: this.text.value, voice: this.voiceName.value.trim() };
    return { translate_to: this.language.value.trim(), review: this.review.checked && "true" };
  }

  show() {
    this.kinds.hidden = this.offered.length < 2;
    this.kinds.setAttribute("aria-label", t("speechKind"));
    const titles = { sound: t("kindSound"), text: t("kindText"), translation: t("kindTranslation") };
    this.kinds.replaceChildren(...this.offered.map((kind) => this.button(kind, titles[kind])));
    this.sound.hidden = this.kind !== "sound";
    this.written.hidden = this.kind !== "text";
    this.translated.hidden = this.kind !== "translation";
    this.translated.replaceChildren(
      h("label", {}, h("span", {}, t("translateTo")), this.language),
      h("p", { class: "hint" }, t("translationHint")),
      h("label", { class: "check" }, this.review, h("span", {}, t("reviewFirst"))));
    this.text.maxLength = this.voice.max_chars;
    this.voiceName.placeholder = this.voice.default ?? "";
    this.written.replaceChildren(
      h("label", {}, h("span", {}, t("textLabel")), this.text),
      h("p", { class: "hint" }, t("textHint", { number: this.voice.max_chars })),
      h("label", {}, h("span", {}, t("voiceLabel")), this.voiceName, this.voiceNames));
    this.voiceNames.replaceChildren(...this.voice.voices.map((value) => h("option", { value })));
  }

  button(kind, title) {
    return h("button", {
      type: "button",
      class: "quiet",
      "aria-pressed": String(this.kind === kind),
      onclick: () => {
        this.kind = kind;
        this.show();
        this.kinds.querySelector('[aria-pressed="true"]').focus();
        this.onChange();
      },
    }, title);
  }
}
