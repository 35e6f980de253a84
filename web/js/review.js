// A job in review: its film beside a table of its turns. Edits are sent one after the other.

import { ApiError, mediaType, request } from "./api.js";
import { ask } from "./confirm.js";
import { h, notice } from "./dom.js";
import { locale, t } from "./i18n.js";
import { ReviewTurn } from "./review_turn.js";
import { TurnPlayer } from "./turn_player.js";

/** The table of a job; `element` shows it, and `side` has space for more buttons. */
export class Review {
  /** @param approved Called with the job once it is approved. */
  constructor(job, approved) {
    Object.assign(this, { url: `/v1/jobs/${job.id}`, approved });
    this.rows = [];
    this.faces = [];
    this.version = null; // of the turns, as the service has them
    this.work = Promise.resolve(); // the edits so far
    this.numConflicts = 0;
    const word = (key) => h("span", { "data-text": key }, t(key));
    this.approveButton = h("button", { type: "button", class: "main", disabled: true, onclick: () => this.approve() });
    this.error = h("p", { class: "notice bad", role: "alert", hidden: true });
    this.again = h("button", { type: "button", "data-text": "retry", hidden: true, onclick: () => this.load() }, t("retry"));
    this.screen = h("div", { class: "screen" });
    this.side = h("div", { class: "side" }, h("p", { class: "hint", "data-text": "reviewHint" }, t("reviewHint")), this.error, this.again, this.approveButton);
    this.list = h("ol", { onkeydown: (event) => this.move(event), "data-label": "reviewTurns", "aria-label": t("reviewTurns") });
    this.element = h("div", { class: "review" },
      h("div", { class: "film" }, this.screen, this.side),
      h("div", { class: "review-turns" },
        h("p", { class: "heads hint", "aria-hidden": "true" }, word("turnTimes"), word("turnFace"), word("kindText"), word("turnLengths")), this.list));
    this.locale = locale();
    this.player = new TurnPlayer((film) => this.follow(film));
    this.showFilm(job.links.source);
    this.load();
  }

  /** Stop playing and give the connections of the film back. */
  close() {
    this.player.close();
  }

  async showFilm(url) {
    const type = await mediaType(url);
    if (!type || !this.element.isConnected) return; // it was closed meanwhile
    const isStill = type.startsWith("image/");
    this.screen.replaceChildren(isStill ? h("img", { src: url, alt: t("original") }) : this.player.film);
    if (!isStill) this.player.film.src = url;
  }

  /** Read the turns. */
  async load() {
    this.again.hidden = true;
    notice(this.error, "");
    try {
      this.take(await request("GET", `${this.url}/turns`));
      this.approveButton.disabled = false;
    } catch (error) {
      notice(this.error, error.message);
      this.again.hidden = false;
    }
  }

  /**
   * Take the turns of the service. The row of a turn stays the same, with what was typed in it.
   *
   * @param edited The row whose edit the service has answered.
   */
  take({ version, turns }, edited = null) {
    this.version = version;
    this.faces = [...new Set([...turns.map(({ face }) => face), "offscreen"])];
    const known = new Map(this.rows.filter((row) => !row.isNew).map((row) => [keyOf(row.turn), row]));
    const found = turns.map((turn) => known.get(keyOf(turn)) ?? null);
    if (edited && !found.includes(edited) && found.includes(null)) found[found.indexOf(null)] = edited;
    const rows = found.map((row) => row ?? this.row());
    rows.forEach((row, place) => row.take(turns[place], this.faces));
    const left = new Set(this.rows.filter((row) => row !== edited && (row.isNew || row.isChanged)));
    for (const row of rows) left.delete(row);
    for (const row of left) row.turn.number = null; // it was removed by somebody else, with a text that is not saved
    this.rows = [...rows, ...left].sort((one, other) => one.turn.start - other.turn.start);
    this.show();
  }

  row() {
    return new ReviewTurn({
      saved: (row) => this.save(row),
      played: (row) => this.player.toggle(row),
      split: (row) => this.split(row),
      added: (row) => this.add(row),
      removed: (row) => this.remove(row),
    });
  }

  /** Show the rows in order, and what is true of all of them. */
  show() {
    const focused = document.activeElement;
    const shown = new Set(this.rows.map((row) => row.element));
    for (const element of [...this.list.children]) if (!shown.has(element)) element.remove();
    this.rows.forEach(({ element }, place) => {
      if (this.list.children[place] !== element) this.list.insertBefore(element, this.list.children[place] ?? null);
    });
    if (this.list.contains(focused) && focused !== document.activeElement) focused.focus({ preventScroll: true });
    for (const row of this.rows) row.show();
    const number = this.rows.filter((row) => row.turn.cut_seconds).length;
    this.approveButton.textContent = t(number ? "approveCut" : "approve", { number });
  }

  /** Show all in the page's language. */
  translate() {
    if (this.locale === locale()) return;
    this.locale = locale();
    for (const row of this.rows) row.showFaces(this.faces);
    this.show();
  }

  /** Send what was changed in a row. */
  save(row) {
    const changes = JSON.stringify(row.changes);
    if (row.isNew ? !row.inputs.text.value.trim() : changes === "{}") return;
    if (row.fault) row.say("", t(row.fault));
    else if (changes !== row.sending) {
      row.sending = changes;
      this.edit(row, /"(text|voice)":/.test(changes) ? "turnSpeaking" : "turnSaving",
        () => (row.isNew ? ["POST", "", row.fields] : row.isChanged ? ["PATCH", `/${row.turn.number}`, row.changes] : null));
    }
  }

  /**
   * Send an edit of a row after the edits before it.
   *
   * @param doing Key of the text that says what happens.
   * @param prepare Returns method, path and body once it is the edit's turn; null if there is nothing to send.
   */
  edit(row, doing, prepare) {
    const { numConflicts } = this;
    row.say(t(doing));
    this.work = this.work.then(async () => {
      row.say(t(doing)); // again: the edit before it may be of the same row
      try {
        if (numConflicts !== this.numConflicts) throw new ApiError(409);
        const [method, path, body] = prepare() ?? [];
        const headers = { "If-Match": `"${this.version}"`, "Content-Type": "application/json" };
        const turns = method && (await request(method, `${this.url}/turns${path}`, { headers, body: body && JSON.stringify(body) }));
        row.say("");
        if (turns) this.take(turns, row);
      } catch (error) {
        row.say("", refusal(error));
        if (error.status === 409 && numConflicts === this.numConflicts) {
          this.numConflicts += 1; // edits that wait were made without knowing the other turns
          await this.load();
        }
      }
      row.sending = null;
    });
  }

  /** Make two turns of one where the cursor is in its text; its share of the text decides the time. */
  split(row) {
    const { value, selectionStart: at } = row.inputs.text;
    const [text, next_text] = [value.slice(0, at).trim(), value.slice(at).trim()];
    if (!text || !next_text) {
      row.say("", t("turnSplitWhere"));
      row.inputs.text.focus();
      return;
    }
    const { start } = row.turn;
    const share = text.length / (text.length + next_text.length);
    const next = Number((start + share * (endOf(row.turn) - start)).toFixed(2));
    this.edit(row, "turnSpeaking", () => ["POST", `/${row.turn.number}/split`, { text, next_text, start: next }]);
  }

  /** Add an empty row after another. It is sent once it has a text. */
  add({ turn }) {
    const row = this.row();
    const { face, voice } = turn;
    const start = Math.ceil(10 * endOf(turn) - 0.001) / 10;
    row.take({ number: null, face, voice, start, end: null, text: "", speaker: turn.speaker, original_text: null, natural_seconds: null, speed: null, cut_seconds: null, audio: null }, this.faces);
    this.rows.splice(this.rows.findIndex((each) => each.turn === turn) + 1, 0, row);
    this.show();
    row.inputs.text.focus();
  }

  async remove(row) {
    if (!row.isNew && !(await ask(t("confirmTurn", { text: row.turn.text ?? "" })))) return;
    const place = this.rows.indexOf(row);
    if (row.isNew) this.rows.splice(place, 1);
    else this.edit(row, "turnSaving", () => ["DELETE", `/${row.turn.number}`]);
    await this.work;
    this.show();
    if (!this.rows.includes(row)) (this.rows[place] ?? this.rows.at(-1)).buttons.remove.focus();
  }

  /** Render the job, once all rows are saved. */
  async approve() {
    this.approveButton.disabled = true;
    for (const row of this.rows) this.save(row);
    await this.work;
    const unfit = this.rows.find((row) => row.problem && (row.isNew || row.isChanged));
    notice(this.error, unfit ? t("fixTurns") : "");
    unfit?.element.querySelector("[aria-invalid=true]")?.focus();
    try {
      if (!unfit) this.approved(await request("POST", `${this.url}/approve`));
    } catch (error) {
      notice(this.error, error.message);
    }
    this.approveButton.disabled = false;
    if (document.activeElement === document.body) this.approveButton.focus({ preventScroll: true }); // disabled, it lost it
  }

  /** Mark the turns that are spoken at the time of the film. */
  follow({ currentTime, paused }) {
    for (const { element, turn } of this.rows) {
      element.classList.toggle("now", !paused && turn.start <= currentTime && currentTime < endOf(turn));
    }
  }

  /** Go to the same control of the row above or below: from a button, and from the edges of a text. */
  move(event) {
    const step = !event.isComposing && { ArrowUp: -1, ArrowDown: 1 }[event.key];
    const { target } = event;
    const { selectionStart: from, selectionEnd: to, value } = target;
    const isEdge = target.tagName === "TEXTAREA" && from === to && from === (step < 0 ? 0 : value.length);
    const row = step && (isEdge || target.tagName === "BUTTON") && this.rows[this.rows.findIndex(({ element }) => element.contains(target)) + step];
    if (!row) return;
    event.preventDefault();
    const same = row.element.querySelector(`[data-part=${target.dataset.part}]:not(:disabled, [hidden])`);
    (same ?? row.inputs.start).focus();
  }
}

/** What a turn keeps when its text or its neighbours change: nobody says two things at once. */
const keyOf = ({ start, face }) => `${start} ${face}`;

/** When a turn ends in the film. */
const endOf = ({ start, end, natural_seconds: natural, speed, cut_seconds: cut }) => end ?? start + (natural ?? 0) / (speed ?? 1) - (cut ?? 0);

/** What to say about an edit that was refused. */
function refusal({ status, code, message, detail }) {
  if (status === 409) return t("turnsChanged");
  if (code !== "option_invalid") return message;
  return locale() === "en" ? `${detail} ${t("turnRefused")}` : t("turnRefused");
}
