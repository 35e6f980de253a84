// One turn of a job in review: when who says what, how long that takes, and what does not fit.

import { h } from "./dom.js";
import { clock, locale, t } from "./i18n.js";
import { faceName } from "./person.js";

export const FAST = 1.15; // listeners notice a speech that is played faster
const MAX_WORD = 12; // characters by which a cut text is extended to the start of a word
const MAX_CUT = 60; // characters of it that are shown
const round = (seconds, digits = 3) => String(Number(seconds.toFixed(digits)));
const SHOWN = {
  start: ({ start }) => round(start),
  end: ({ end }) => (end === null ? "" : round(end)),
  face: ({ face }) => face ?? "",
  voice: ({ voice }) => voice ?? "",
  text: ({ text }) => (text ?? "").replace(/\r\n?/g, "\n"),
};
const SENT = { start: Number, end: (value) => (value ? Number(value) : null), text: (value) => value, face: (value) => value || null, voice: (value) => value || null };

/** A row of the table; `turn` is what the service says about it, with `number` null before it has the turn. */
export class ReviewTurn {
  /** @param listeners `saved`, `played`, `split`, `added` and `removed` get the row whose control was used. */
  constructor({ saved, played, split, added, removed }) {
    const button = (part, kind, listener) => h("button", { type: "button", class: kind, "data-part": part, onclick: () => listener(this) });
    this.inputs = {
      start: h("input", { type: "number", min: 0, step: 0.1, "data-part": "start" }),
      end: h("input", { type: "number", min: 0, step: 0.1, "data-part": "end" }),
      face: h("select", { "data-part": "face", onchange: () => saved(this) }),
      voice: h("input", { type: "text", list: "voices", autocomplete: "off", spellcheck: false, "data-part": "voice" }),
      text: h("textarea", { rows: 2, "data-part": "text" }),
    };
    this.buttons = { play: button("play", "play", played), split: button("split", "quiet", split), add: button("add", "quiet", added), remove: button("remove", "quiet", removed) };
    this.at = h("span", { class: "hint" });
    this.speaker = h("span", { class: "name" });
    this.original = h("p", { class: "hint" });
    this.length = h("p", { class: "length" });
    this.note = h("p", { class: "note", role: "status" });
    const { start, end, face, voice, text } = this.inputs;
    const { play, ...tools } = this.buttons;
    this.element = h("li", { class: "review-turn", onfocusout: () => saved(this), onkeydown: (event) => this.pressed(event, saved) },
      h("div", { class: "when" }, play, this.at, start, end),
      h("div", { class: "who" }, this.speaker, face, voice),
      h("div", { class: "what" }, this.original, text, this.note, h("div", { class: "tools" }, Object.values(tools))),
      this.length);
    this.turn = null;
    this.saved = {};
    this.problem = this.doing = ""; // what is wrong, and what happens now
    this.sending = null;
  }

  get isNew() {
    return this.turn.number === null;
  }

  /** The fields that differ from what the service has. */
  get changes() {
    const typed = Object.entries(this.inputs).filter(([name, input]) => input.value !== this.saved[name] && !input.hidden);
    return Object.fromEntries(typed.map(([name, input]) => [name, SENT[name](input.value.trim())]));
  }

  get isChanged() {
    return Object.keys(this.changes).length > 0;
  }

  /** Fields of a turn that the service does not have. */
  get fields() {
    return Object.fromEntries(Object.entries(this.inputs).map(([name, input]) => [name, SENT[name](input.value.trim())]));
  }

  /** Key of the text that says what has to be corrected before the turn is sent; null if nothing has. */
  get fault() {
    if (!this.inputs.start.value) return "turnNoStart";
    return this.turn.text !== null && !this.inputs.text.value.trim() ? "turnNoText" : null;
  }

  /** Take what the service says about the turn. What was typed and not sent stays. @param faces All faces of the job. */
  take(turn, faces) {
    this.turn = turn;
    this.showFaces(faces);
    for (const [name, input] of Object.entries(this.inputs)) {
      const next = SHOWN[name](turn);
      const isTyped = name in this.saved && input.value !== this.saved[name] && input.value.trim() !== next;
      this.saved[name] = next;
      if (!isTyped && input.value !== next) input.value = next;
    }
    this.show();
  }

  /** Put back what the service has. */
  reset() {
    for (const [name, input] of Object.entries(this.inputs)) input.value = this.saved[name];
    this.say("");
  }

  showFaces(faces) {
    const { face } = this.inputs;
    const { value } = face;
    face.replaceChildren(...faces.map((each) => h("option", { value: each ?? "" }, faceName(each))));
    face.value = value;
  }

  /** Show what is happening to the turn, or what went wrong with it. */
  say(doing, problem = "") {
    Object.assign(this, { doing, problem });
    this.show();
  }

  /** @param isPlaying Whether the turn is played. */
  showPlaying(isPlaying) {
    this.isPlaying = isPlaying;
    this.show();
  }

  /** Show the turn in the page's language. */
  show() {
    const { turn, inputs, buttons } = this;
    const number = this.isNew ? t("turnNew") : turn.number + 1;
    const isFile = turn.text === null;
    this.element.setAttribute("aria-label", t("turnName", { number, at: clock(turn.start) }));
    this.element.setAttribute("aria-busy", String(Boolean(this.doing)));
    this.at.textContent = clock(turn.start);
    this.speaker.textContent = turn.speaker ?? "";
    this.original.textContent = turn.original_text ? t("turnOriginal", { text: turn.original_text }) : "";
    const labels = { start: "turnStart", end: "turnEndLabel", face: "turnFace", voice: "voiceLabel", text: "textLabel" };
    for (const [name, key] of Object.entries(labels)) inputs[name].setAttribute("aria-label", t(key));
    inputs.voice.placeholder = t("voiceLabel");
    inputs.end.placeholder = t("turnNoEnd");
    inputs.text.hidden = inputs.voice.hidden = isFile;
    buttons.split.hidden = isFile || this.isNew;
    buttons.add.hidden = this.isNew;
    buttons.play.disabled = !turn.audio;
    buttons.play.textContent = this.isPlaying ? "■" : "▶";
    for (const name of ["split", "add", "remove"]) buttons[name].textContent = t(`turnTools.${name}`);
    for (const [name, button] of Object.entries(buttons)) button.setAttribute("aria-label", t(`turnToolsOf.${name === "play" && this.isPlaying ? "stop" : name}`, { number }));
    this.element.classList.toggle("cut", Boolean(turn.cut_seconds));
    this.length.replaceChildren(...this.lengths().map(([text, kind]) => h("span", { class: kind }, text)));
    const note = this.problem || this.doing || (turn.cut_seconds ? t("turnCutText", { text: cutText(turn) }) : isFile ? t("turnFile") : "");
    if (this.note.textContent !== note) this.note.textContent = note;
    this.note.classList.toggle("bad", Boolean(this.problem));
    for (const [name, input] of Object.entries(inputs)) input.setAttribute("aria-invalid", String(Boolean(this.problem) && input.value !== this.saved[name]));
  }

  /** How long the speech is, how fast it is played and how much of it is cut: texts with the class of each. */
  lengths() {
    const { start, end, natural_seconds: natural, speed, cut_seconds: cut } = this.turn;
    if (natural === null) return [];
    const values = { natural: natural.toFixed(1), slot: end === null ? "" : (end - start).toFixed(1) };
    return [
      [t(end === null ? "turnLength" : "turnLengthOf", values), ""],
      speed && [t("turnSpeed", { speed: speed.toFixed(2) }), speed > FAST ? "badge warn" : "badge"],
      cut && [t("turnCutBy", { seconds: Math.max(0.1, cut).toFixed(1) }), "badge bad"],
    ].filter(Boolean);
  }

  pressed(event, saved) {
    if (event.isComposing) return; // the key is for the input method
    const isText = event.target === this.inputs.text;
    if (event.key === "Escape") this.reset();
    else if (event.key === "Enter" && event.target.matches("input, textarea") && (!isText || event.ctrlKey || event.metaKey)) saved(this);
    else return;
    event.preventDefault();
  }
}

/** Where a text is cut, as far as its length tells. */
function cutText({ text, natural_seconds: natural, speed, cut_seconds: cut }) {
  const at = Math.floor(text.length * (1 - (cut * (speed ?? 1)) / natural));
  const word = locale() === "en" || /\s/.test(text) ? text.slice(Math.max(0, at - MAX_WORD), at).search(/\S+$/) : -1;
  const end = text.slice(word < 0 ? at : Math.max(0, at - MAX_WORD) + word).trim();
  return end.length > MAX_CUT ? `${end.slice(0, MAX_CUT)}…` : end;
}
