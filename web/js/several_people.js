// Several people speak in one video: who they are, and what each of them says when.

import { request, ROOT } from "./api.js";
import { h, notice } from "./dom.js";
import { clock, onLanguage, t } from "./i18n.js";
import { secondsAt, secondsOf } from "./media_length.js";
import { Person } from "./person.js";
import { Subtitles } from "./subtitles.js";
import { withUnsavedAvatar } from "./unsaved_avatar.js";

const LOOK_MS = 1000;

/** The switch below the face of the form, and what it opens. */
export class SeveralPeople {
  /**
   * @param place The element to fill. @param speech Element to fill with what the switch puts in place of one speech.
   * @param onChange Called when the switch or a turn has changed.
   */
  constructor(place, speech, onChange) {
    this.onChange = onChange;
    this.source = null; // a video file, or an avatar
    this.voice = { is_available: false };
    this.avatarId = null;
    this.people = null; // until they are found
    const subtitles = h("div");
    this.lead = h("p", { class: "hint", "data-text": "severalSpeech" }, t("severalSpeech"));
    speech.append(this.lead, subtitles);
    this.subtitles = new Subtitles(subtitles, () => this.changed());
    this.video = { seconds: 0, nextStart: (person) => this.nextStart(person) };
    this.doing = null; // a text key and its values
    this.box = h("input", { type: "checkbox", id: "several", onchange: () => this.switchTo(this.box.checked) });
    this.label = h("label", { class: "check", hidden: true }, this.box, h("span", { "data-text": "severalPeople" }, t("severalPeople")));
    this.status = h("p", { class: "hint", role: "status" });
    this.error = h("p", { class: "notice bad", role: "alert", hidden: true });
    this.again = h("button", { type: "button", "data-text": "retry", hidden: true, onclick: () => this.search() }, t("retry"));
    this.list = h("div", { class: "people" });
    this.ruler = h("p", { class: "ruler hint", "aria-hidden": "true" }, h("span", {}, clock(0)), h("span"));
    this.review = h("input", { type: "checkbox", id: "review" });
    this.reviewLabel = h("label", { class: "check", hidden: true }, this.review, h("span", { "data-text": "reviewFirst" }, t("reviewFirst")));
    this.panel = h("div", { class: "several", hidden: true }, this.status, this.error, this.again, this.list, this.ruler, this.reviewLabel);
    place.append(this.label, this.panel);
    onLanguage(() => this.show());
  }

  get isOn() {
    return this.box.checked;
  }

  /** Take the video whose people may speak: a file, an avatar, or null. Another one turns the switch off. */
  use(source) {
    const isSame = this.source === source || (source?.id && source.id === this.source?.id); // perhaps with other settings
    this.source = source;
    if (isSame) return;
    this.people = null;
    this.label.hidden = !source;
    this.switchTo(false);
  }

  switchTo(isOn) {
    this.box.checked = isOn;
    this.panel.hidden = !isOn;
    if (isOn && !this.people) this.search();
    this.onChange();
  }

  /** Find the people of the video. */
  async search() {
    const { source } = this;
    const search = (this.latest = {});
    const isWanted = () => this.isOn && this.latest === search;
    const tell = (...doing) => {
      if (!isWanted()) return;
      this.doing = doing;
      this.show();
    };
    this.people = null;
    this.list.replaceChildren(...[0, 1].map((number) => this.person({ number, seen: [], thumbnail: "" }).element)); // placeholders
    notice(this.error, "");
    tell("peopleSearching", { percent: 0 });
    try {
      const find = (id) => this.peopleOf(id, tell, isWanted);
      const [found, seconds] = await Promise.all(source instanceof File
        ? [withUnsavedAvatar(source, tell, find), secondsOf(source)]
        : [find(source.id), secondsAt(`${ROOT}/v1/avatars/${source.id}/source`)]);
      if (isWanted()) this.take(found, seconds);
    } catch (error) {
      if (isWanted()) notice(this.error, error.message);
    }
    if (isWanted()) tell(null);
  }

  async peopleOf(avatarId, tell, isWanted) {
    this.avatarId = avatarId;
    while (isWanted()) {
      const found = await request("GET", `/v1/avatars/${avatarId}/people`);
      if (found.status === "ready") return found.people;
      tell("peopleSearching", { percent: Math.floor(100 * found.progress) });
      await new Promise((done) => setTimeout(done, LOOK_MS));
    }
    return null;
  }

  take(people, seconds) {
    const lastSeen = Math.max(0, ...people.flatMap(({ seen }) => seen.map(({ end }) => end)));
    this.video.seconds = seconds ?? lastSeen;
    this.people = people.map((seen) => this.person(seen));
    this.list.replaceChildren(...this.people.map((person) => person.element));
    if (!people.length) notice(this.error, t("peopleNone"));
  }

  person(seen) {
    return new Person(seen, this.video, this.voice, { changed: () => this.changed(), measured: () => this.show() });
  }

  /** Where a new turn of a person starts: after everything that is said so far, if there is time. */
  nextStart(person) {
    const ends = this.turns.map(({ turn }) => (turn.start || 0) + (turn.length ?? 0));
    const first = person.seen.seen[0]?.start ?? 0;
    const next = Math.ceil(10 * Math.max(first, ...ends) - 0.001) / 10;
    return next < this.video.seconds ? next : first;
  }

  changed() {
    this.show();
    this.onChange();
  }

  show() {
    const isSearching = this.isOn && this.doing?.[0];
    this.status.textContent = isSearching ? t(...this.doing) : t(this.subtitles.file ? "severalSubtitles" : "severalHint");
    this.again.hidden = this.error.hidden || Boolean(this.people);
    this.list.classList.toggle("searching", Boolean(isSearching));
    this.panel.classList.toggle("with-subtitles", Boolean(this.subtitles.file));
    if (!this.people && !isSearching) this.list.replaceChildren();
    this.lead.hidden = Boolean(this.subtitles.file);
    this.subtitles.place.hidden = !this.voice.is_available;
    this.subtitles.show(this.people ?? []);
    this.ruler.hidden = !this.list.firstChild || Boolean(this.subtitles.file);
    this.reviewLabel.hidden = !this.hasTexts;
    this.ruler.lastChild.textContent = this.people ? clock(this.video.seconds) : "";
    for (const person of this.people ?? []) person.show();
  }

  get turns() {
    return (this.people ?? []).flatMap((person) => person.turns.map((turn) => ({ person, turn })));
  }

  /** Whether anything is spoken by a voice. */
  get hasTexts() {
    return Boolean(this.subtitles.file) || this.turns.some(({ turn }) => !turn.file);
  }

  /** Return the key of the text that says what is missing, null if nothing is, and focus the first input to correct. */
  check() {
    if (!this.people) return "needPeople";
    if (!this.people.length) return "peopleNone";
    if (this.subtitles.file) return null;
    if (!this.turns.length) return "needTurns";
    const unfit = this.people.map((person) => person.unfit).find(Boolean);
    unfit?.row.querySelector("[aria-invalid=true]").focus();
    return unfit ? "fixTurns" : null;
  }

  /** Fields of the job. */
  get fields() {
    const common = { avatar_id: this.avatarId, review: this.hasTexts && this.review.checked && "true" };
    if (this.subtitles.file) return { ...common, ...this.subtitles.fields };
    const files = {};
    const turns = this.turns.map(({ person, turn }, number) => {
      const fields = { face: `person:${person.number}`, ...turn.fields };
      if (!turn.file) return fields;
      const audio = `audio_${number}`;
      files[audio] = turn.file;
      return { ...fields, audio };
    });
    return { ...common, turns: JSON.stringify(turns), ...files };
  }
}
