// What one person says at one time of the video: a row of the form, and a bar on the person's timeline.

import { h } from "./dom.js";
import { t } from "./i18n.js";
import { secondsOf } from "./media_length.js";

const STEP_SECONDS = 0.1;
const KEYS = {
  ArrowLeft: -STEP_SECONDS, ArrowDown: -STEP_SECONDS, ArrowRight: STEP_SECONDS, ArrowUp: STEP_SECONDS,
  PageDown: -1, PageUp: 1, Home: -Infinity, End: Infinity,
};
const CHARS_PER_SECOND = 15; // of English read aloud; of Chinese it is 4 to 5
const HAN_PER_SECOND = 4.5;

const round = (seconds) => Math.round(10 * seconds) / 10;

/** One turn. */
export class Turn {
  /**
   * @param video `seconds`: its length.
   * @param speech `file`, or `maxChars` for a text; `start`: when it starts, in seconds of the video.
   * @param listeners `changed` is called after each change, `measured` when the length is known, and `removed` by the
   *   button that removes the turn.
   */
  constructor(video, { file = null, maxChars = 0, start }, { changed, measured, removed }) {
    Object.assign(this, { video, file, changed, start, seconds: null });
    this.startInput = h("input", { type: "number", min: 0, step: STEP_SECONDS, value: this.start, oninput: () => this.typed() });
    this.text = h("textarea", { rows: 2, maxLength: maxChars, oninput: () => this.changed(), "data-label": "textLabel", "aria-label": t("textLabel") });
    this.voice = h("input", { type: "text", list: "voices", autocomplete: "off", spellcheck: false });
    this.end = h("span", { class: "hint" });
    this.note = h("p", { class: "note", role: "status" });
    this.bar = h("div", { class: "turn-bar", role: "slider", tabIndex: 0, onkeydown: (event) => this.pressed(event) });
    this.name = h("span", { class: "name" });
    this.remove = h("button", { type: "button", class: "quiet", onclick: removed }, "✕");
    const word = (key) => h("span", { "data-text": key }, t(key));
    this.row = h("li", { class: "turn" },
      h("p", { class: "file" }, this.name, this.remove),
      !file && this.text,
      h("div", { class: "times" }, h("label", {}, word("turnStart"), " ", this.startInput), this.end),
      !file && h("label", { class: "voice" }, word("voiceLabel"), " ", this.voice),
      this.note);
    this.bar.addEventListener("pointerdown", (event) => this.drag(event));
    if (file) this.measure(measured);
  }

  /** Length of the speech in seconds: an estimate for a text, null if it is not known. */
  get length() {
    if (this.file) return this.seconds;
    const han = this.text.value.match(/\p{Script=Han}/gu)?.length ?? 0;
    return han / HAN_PER_SECOND + (this.text.value.length - han) / CHARS_PER_SECOND;
  }

  /** Fields of the turn in a request, without those of its file. */
  get fields() {
    const { start } = this;
    return this.file ? { start } : { start, text: this.text.value.trim(), voice: this.voice.value.trim() || null };
  }

  /** Key of the text that says why the turn cannot be sent; null if it can. @param others Other turns of the person. */
  problem(others) {
    if (!(this.start >= 0)) return "turnNoStart";
    if (this.start >= this.video.seconds) return "turnAfterEnd";
    if (!this.file && !this.text.value.trim()) return "turnNoText";
    return others.some((other) => overlap(...[this, other].sort((a, b) => a.start - b.start))) ? "turnOverlaps" : null;
  }

  /** Show the turn. @param person Name of the person. @param problem See `problem`. */
  show(person, problem) {
    const { seconds } = this.video;
    const name = this.file?.name ?? t("kindText");
    const end = this.start + this.length;
    const isEndKnown = this.file ? this.seconds !== null : this.length > 0;
    this.name.textContent = name;
    this.remove.setAttribute("aria-label", t("removeFile", { name }));
    this.end.textContent = isEndKnown ? t(this.file ? "turnEnd" : "turnEndAbout", { end: end.toFixed(1) }) : "";
    this.startInput.setAttribute("aria-invalid", String(["turnNoStart", "turnAfterEnd", "turnOverlaps"].includes(problem)));
    this.text.setAttribute("aria-invalid", String(problem === "turnNoText"));
    this.note.textContent = problem ? t(problem) : this.file && end > seconds + STEP_SECONDS ? t("turnCut") : "";
    this.note.classList.toggle("bad", Boolean(problem));
    this.bar.classList.toggle("bad", Boolean(problem) && problem !== "turnNoText");
    this.bar.classList.toggle("estimated", !this.file);
    this.bar.style.left = `${(100 * (this.start || 0)) / seconds}%`;
    this.bar.style.width = `${(100 * (this.length ?? 0)) / seconds}%`;
    const spoken = { "aria-label": t("turnStartOf", { name, person }), "aria-valuetext": t("turnAt", { start: this.start }) };
    const values = { "aria-valuemin": 0, "aria-valuemax": round(seconds), "aria-valuenow": this.start || 0 };
    for (const [key, value] of Object.entries({ ...spoken, ...values })) this.bar.setAttribute(key, value);
  }

  async measure(measured) {
    this.seconds = await secondsOf(this.file);
    measured();
  }

  typed() {
    this.start = this.startInput.valueAsNumber;
    this.changed();
  }

  moveTo(start) {
    this.start = Math.max(0, Math.min(round(start), Math.ceil(10 * this.video.seconds - 1) / 10));
    this.startInput.value = this.start;
    this.changed();
  }

  pressed(event) {
    const step = KEYS[event.key];
    if (step === undefined) return;
    event.preventDefault();
    this.moveTo((this.start || 0) + step);
  }

  drag({ pointerId, clientX, button }) {
    if (button !== 0) return;
    const from = this.start || 0;
    this.bar.setPointerCapture(pointerId);
    this.bar.onpointermove = (event) => this.moveTo(from + ((event.clientX - clientX) / this.bar.parentElement.clientWidth) * this.video.seconds);
    this.bar.onlostpointercapture = () => (this.bar.onpointermove = null);
  }
}

/** Whether `later` starts before `earlier` has ended. A text is cut short where the next turn starts. */
function overlap(earlier, later) {
  const end = earlier.start + (earlier.file ? earlier.seconds ?? 0 : 0);
  return later.start === earlier.start || later.start < end - 0.001;
}
