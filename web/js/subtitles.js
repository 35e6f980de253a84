// Subtitles that are spoken: their file, and which person plays which of their speakers.

import { FilePicker } from "./file_picker.js";
import { h } from "./dom.js";
import { t } from "./i18n.js";

const WHOEVER = "speaking";
const NOBODY = "";
const TIMING = /(?:(\d+):)?(\d+):(\d+)[.,](\d+)\s*-->\s*(?:(\d+):)?(\d+):(\d+)[.,](\d+)/;
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
    const played = this.speakers.filter(({ face }) => face.value !== NOBODY);
    const choices = played.map(({ name, face, voice }) => [name, { face: face.value, voice: voice.value.trim() || null }]);
    return { subtitles: this.file, speakers: JSON.stringify(Object.fromEntries(choices)) };
  }

  async read() {
    const { file } = this;
    const cues = file ? [...cuesOf(decoded(await file.arrayBuffer()))] : [];
    if (file !== this.file) return;
    const found = Map.groupBy(cues, ({ name }) => name.toLowerCase());
    this.speakers = [...found.values()].filter((said) => said.length > 1 || said[0].isName).map((said) => ({
      said,
      name: said[0].name,
      face: h("select", { "aria-label": said[0].name }),
      voice: h("input", { type: "text", list: "voices", autocomplete: "off" }),
    }));
    this.onChange();
  }

  /**
   * Offer the people of the video.
   *
   * @param people With `name` and `number`. @param turns When who speaks in the video itself.
   */
  show(people, turns) {
    for (const speaker of this.speakers) {
      const { said, name, face, voice } = speaker;
      const chosen = speaker.turns === turns ? face.value : !said[0].isName && hasCase(name) ? NOBODY : likely(said, turns);
      speaker.turns = turns;
      face.replaceChildren(
        h("option", { value: WHOEVER }, t("speakerWhoever")),
        ...people.map(({ name, number }) => h("option", { value: `person:${number}` }, name)),
        ...(said[0].isName ? [] : [h("option", { value: NOBODY }, t("speakerNobody"))]));
      face.value = chosen;
      voice.ariaLabel = voice.placeholder = t("voiceLabel");
    }
    this.list.hidden = !this.file;
    this.list.replaceChildren(
      ...this.speakers.map(({ name, face, voice }) => h("div", { class: "speaker", role: "group", "aria-label": name }, h("span", { class: "name" }, name), face, voice)),
      h("p", { class: "hint" }, t(this.speakers.length ? "speakersHint" : "speakersNone")));
  }
}

function decoded(buffer) {
  const [first] = new Uint8Array(buffer);
  return new TextDecoder({ 0xff: "utf-16le", 0xfe: "utf-16be" }[first] ?? "utf-8").decode(buffer);
}

/**
 * The cues of an SRT or WebVTT file that begin with a name. The service takes a name in capitals or of a WebVTT voice
 * for a speaker (`isName`), and others if they are chosen here.
 */
function* cuesOf(text) {
  for (const block of text.split(/(?:\r?\n|\r){2,}/)) {
    const timing = block.match(TIMING);
    if (!timing) continue;
    const [start, end] = [timing.slice(1, 5), timing.slice(5)].map(([h = 0, m, s, ms]) => 3600 * h + 60 * m + Number(`${s}.${ms}`));
    for (const [, voice, name = voice] of block.slice(timing.index + timing[0].length).matchAll(NAME)) {
      yield { name: name.trim(), isName: Boolean(voice) || (hasCase(name) && name === name.toUpperCase()), start, end };
    }
  }
}

/** Whether a name is in a script with capital letters. */
const hasCase = (name) => name.toUpperCase() !== name.toLowerCase();

/** Face choice of the person who speaks most of the time of these cues in the video itself. */
function likely(cues, turns) {
  const seconds = new Map();
  for (const { person, start, end } of turns) {
    const shared = cues.reduce((sum, cue) => sum + Math.max(0, Math.min(end, cue.end) - Math.max(start, cue.start)), 0);
    if (person !== null && shared > 0) seconds.set(person, (seconds.get(person) ?? 0) + shared);
  }
  const [[person] = []] = [...seconds].sort(([, a], [, b]) => b - a);
  return person === undefined ? WHOEVER : `person:${person}`;
}
