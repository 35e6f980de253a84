// Subtitles that are spoken: their file, and which person plays which of their speakers.

import { FilePicker } from "./file_picker.js";
import { h } from "./dom.js";
import { t } from "./i18n.js";

const NO_NAME = "none";
const NAME = /<v(?:\.[^\s>]*)?\s+([^<>]+)>|^\s*(?:[-–]\s*)?(\p{L}[^:：<>\n]{0,39}?)\s*[:：]\s*(?=\S)/gmu;

/** The subtitles of the form. */
export class Subtitles {
  /**
   * @param place The element to fill.
   * @param onChange Called after each change of the file.
   */
  constructor(place, onChange) {
    Object.assign(this, { place, onChange });
    this.speakers = [];
    const picker = h("div");
    this.list = h("div", { class: "fields" });
    place.append(picker, this.list);
    this.picker = new FilePicker(picker, "subtitles", () => this.read());
  }

  get file() {
    return this.picker.file;
  }

  /** Fields of the job. */
  get fields() {
    const played = this.speakers.filter(({ face }) => face.value !== NO_NAME);
    const choices = played.map(({ name, face, voice }) => [name, { face: face.value || null, voice: voice.value.trim() || null }]);
    return { subtitles: this.file, speakers: JSON.stringify(Object.fromEntries(choices)) };
  }

  async read() {
    const { file } = this;
    const names = file ? speakersOf(decoded(await file.arrayBuffer())) : [];
    if (file !== this.file) return;
    this.speakers = names.map(({ name, isSure }) => ({
      name,
      isSure,
      face: h("select", { "aria-label": name }),
      voice: h("input", { type: "text", list: "voices", autocomplete: "off" }),
    }));
    this.onChange();
  }

  /** Offer the people of the video, with `name` and `number`. */
  show(people) {
    for (const { name, isSure, face, voice } of this.speakers) {
      const chosen = face.options.length ? face.value : !isSure && hasCase(name) ? NO_NAME : "";
      face.replaceChildren(
        h("option", { value: "" }, t("speakerAutomatic")),
        ...people.map((person) => h("option", { value: `person:${person.number}` }, person.name)),
        h("option", { value: "offscreen" }, t("speakerOffscreen")),
        ...(isSure ? [] : [h("option", { value: NO_NAME }, t("speakerNoName"))]));
      face.value = [...face.options].some(({ value }) => value === chosen) ? chosen : "";
      voice.ariaLabel = voice.placeholder = t("voiceLabel");
    }
    this.list.hidden = !this.file;
    this.list.replaceChildren(
      ...this.speakers.map(({ name, face, voice }) => h("div", { class: "speaker", role: "group", "aria-label": name }, h("span", { class: "name" }, name), face, voice)),
      h("p", { class: "hint" }, t("speakersHint")));
  }
}

function decoded(buffer) {
  const [first] = new Uint8Array(buffer);
  return new TextDecoder({ 0xff: "utf-16le", 0xfe: "utf-16be" }[first] ?? "utf-8").decode(buffer);
}

/**
 * The speakers of an SRT or WebVTT file. The service takes names in capitals and those of WebVTT voices for speakers
 * (`isSure`), and those that are sent; other words before a colon count here if they occur twice.
 */
function speakersOf(text) {
  const found = new Map();
  const cues = text.split(/(?:\r?\n|\r){2,}/).filter((block) => block.includes("-->")).map((block) => block.slice(block.indexOf("-->")));
  for (const [, voice, word = voice] of cues.join("\n").matchAll(NAME)) {
    const name = word.trim();
    const known = found.get(name.toLowerCase()) ?? { name, isSure: false, count: 0 };
    known.isSure ||= Boolean(voice) || (hasCase(name) && name === name.toUpperCase());
    known.count += 1;
    found.set(name.toLowerCase(), known);
  }
  return [...found.values()].filter(({ isSure, count }) => isSure || count > 1);
}

/** Whether a name is in a script with capital letters. */
const hasCase = (name) => name.toUpperCase() !== name.toLowerCase();
