// One person of a video: when they are seen, and what they say in it.

import { dropTarget, FilePicker } from "./file_picker.js";
import { h } from "./dom.js";
import { clock, t } from "./i18n.js";
import { Turn } from "./turn.js";

const NUM_RANGES = 3; // that are written out; the timeline shows all

/** Name of a face in the page's language: who speaks a turn. */
export function faceName(face) {
  const [, number] = face?.match(/^person:(\d+)$/) ?? [];
  if (number !== undefined) return t("person", { number });
  return face === "offscreen" ? t("speakerOffscreen") : face ?? t("faceLargest");
}

/** The card of a person. */
export class Person {
  /**
   * @param seen What the service says about the person.
   * @param video `seconds`: its length; `nextStart`: where a new turn of somebody starts.
   * @param voice What the service says about its voice.
   * @param listeners `changed` and `measured`, see `Turn`.
   */
  constructor(seen, video, voice, listeners) {
    Object.assign(this, { seen, video, voice, listeners });
    this.turns = [];
    const id = `person-${seen.number}`;
    this.title = h("h3", { id });
    this.when = h("p", { class: "hint" });
    this.track = h("div", { class: "track" }, seen.seen.map(({ start, end }) => {
      const range = h("span", { class: "seen" });
      range.style.left = `${(100 * start) / video.seconds}%`;
      range.style.width = `${(100 * (end - start)) / video.seconds}%`;
      return range;
    }));
    this.rows = h("ul", { class: "turns" });
    const add = h("div", { class: "add" });
    this.write = h("button", { type: "button", class: "quiet", "data-text": "writeText", hidden: !voice.is_available, onclick: () => this.add({ maxChars: voice.max_chars }) }, t("writeText"));
    this.element = h("div", { class: "person", role: "group", "aria-labelledby": id },
      h("img", { src: seen.thumbnail, alt: "", width: 56, height: 56 }),
      h("div", {}, this.title, this.when), this.track, this.rows, add);
    this.picker = new FilePicker(add, "audio", undefined, (file) => this.add({ file }));
    add.append(this.write);
    dropTarget(this.element, (file) => add.offsetParent && this.picker.take(file)); // it is hidden while subtitles are spoken
  }

  get number() {
    return this.seen.number;
  }

  get name() {
    return t("person", this.seen);
  }

  /** Add a turn. @param speech See `Turn`, without its start. */
  add(speech) {
    const turn = new Turn(this.video, { ...speech, start: this.video.nextStart(this) }, {
      ...this.listeners,
      removed: () => this.drop(turn),
    });
    this.turns.push(turn);
    this.rows.append(turn.row);
    this.track.append(turn.bar);
    this.listeners.changed();
    (speech.file ? turn.startInput : turn.text).focus({ preventScroll: true });
  }

  drop(turn) {
    this.turns = this.turns.filter((each) => each !== turn);
    turn.row.remove();
    turn.bar.remove();
    this.listeners.changed();
    this.element.querySelector("input[type=file]").focus({ preventScroll: true });
  }

  /** The first turn that cannot be sent; undefined if all can. */
  get unfit() {
    return this.turns.find((turn) => this.problemOf(turn));
  }

  problemOf(turn) {
    return turn.problem(this.turns.filter((other) => other !== turn));
  }

  show() {
    const ranges = this.seen.seen.map(({ start, end }) => `${clock(start)}–${clock(end)}`);
    const more = ranges.length > NUM_RANGES ? [`+ ${ranges.length - NUM_RANGES}`] : [];
    this.title.textContent = this.name;
    this.when.textContent = this.when.title = t("personSeen", { when: [...ranges.slice(0, NUM_RANGES), ...more].join(", ") });
    for (const turn of this.turns) turn.show(this.name, this.problemOf(turn));
  }
}
