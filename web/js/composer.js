// The form for a new job: speech, face and options.

import { request, send } from "./api.js";
import { byId, h, notice } from "./dom.js";
import { knows, onLanguage, t } from "./i18n.js";
import { MARKS } from "./face_marks.js";
import { FilePicker, isVideo } from "./file_picker.js";
import { AvatarSettings } from "./avatar_settings.js";
import { Avatars } from "./avatars.js";
import { Clips } from "./clips.js";
import { PictureOptions } from "./picture_options.js";
import { SeveralPeople } from "./several_people.js";
import { setValue, showsValue } from "./slider.js";
import { SpeechInput } from "./speech_input.js";
import { addStillChoices } from "./still_choices.js";

const MOVEMENT = { expressiveness: 1, motion: 1, expression: "neutral", head: "lively" }; // with the usual values

/** The form of a new job. */
export class Composer {
  /** @param onJob Called with an accepted job. @param onRefused Called with errors that are not about the form. */
  constructor(form, onJob, onRefused) {
    this.form = form;
    this.onJob = onJob;
    this.onRefused = onRefused;
    this.engines = [];
    this.sent = new Map(); // fields by job ID, for retries
    const single = h("div");
    const everyone = h("div", { class: "everyone", hidden: true });
    byId("speech").append(single, everyone);
    this.speechParts = { single, everyone };
    this.speech = new SpeechInput(single, () => this.showParts());
    const [avatars, face, clips, settings, several] = [h("div", { class: "avatars", hidden: true }), h("div"), h("div"), h("div"), h("div")];
    byId("face").append(avatars, face, clips, settings, several, this.keepBox());
    this.avatars = new Avatars(avatars, (avatar) => {
      face.hidden = Boolean(avatar);
      this.clips.use(avatar);
      this.settings.use(avatar);
      this.useSettings(avatar);
      this.faceChanged();
    }, (avatar) => this.clips.use(avatar));
    this.clips = new Clips(clips, () => this.avatars.refresh());
    this.settings = new AvatarSettings(settings, async (avatar) => {
      await this.avatars.refresh();
      if (this.avatars.chosen?.id === avatar.id) this.avatars.choose(avatar);
    });
    this.face = new FilePicker(face, "video", () => this.faceChanged());
    this.several = new SeveralPeople(several, everyone, () => this.showParts());
    for (const name of ["expressiveness", "motion"]) showsValue(byId(name));
    this.acting = addStillChoices(byId("still-motion").parentElement);
    this.picture = new PictureOptions(() => notice(byId("composer-error"), ""));
    this.showParts();
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.submit();
    });
    byId("which").addEventListener("change", () => this.aim());
    byId("engine").addEventListener("change", () => this.showEngineNote());
    onLanguage(() => this.showEngines());
  }

  /** Load engines, avatars and voices. */
  async refresh() {
    this.engines = (await request("GET", "/v1/engines")).engines;
    this.showEngines();
    await Promise.all([this.avatars.refresh(), this.speech.refresh()]);
    this.several.voice = this.speech.voice;
  }

  /** Load the source of an earlier job into the form; false if it was deleted. */
  async useSource(job) {
    const answer = await fetch(job.links.source, { credentials: "same-origin" });
    if (!answer.ok) return false;
    const content = await answer.blob();
    this.avatars.choose(null);
    this.face.take(new File([content], job.inputs.source || "avatar", { type: content.type }));
    if (job.options.turns) this.several.switchTo(true);
    byId("composer").focus();
    return true;
  }

  /** Fill the form with the files and options of an earlier job, and say what is missing. */
  async useJob(job) {
    const hasFace = await this.useSource(job);
    this.useOptions(job.options);
    const hasSpeech = !job.options.turns && (await this.useSpeech(job));
    if (hasFace && job.error?.code === "face_not_found" && !isVideo(this.face.file)) this.aim("points");
    notice(byId("composer-error"), hasFace && hasSpeech ? "" : t(hasFace ? "needSpeechAgain" : "needFace"));
  }

  /** Let the face be chosen in the picture as the form says. */
  aim(which = byId("which").value, marks = null) {
    byId("which").value = which;
    this.face.aim(which, marks);
    if (which.startsWith("point")) byId("face").scrollIntoView({ block: "nearest" });
  }

  async useSpeech(job) {
    const answer = await fetch(`${job.links.self}/audio`, { credentials: "same-origin" });
    if (!answer.ok) return false;
    const content = await answer.blob();
    this.speech.take(new File([content], job.inputs.audio || "audio", { type: content.type.startsWith("audio/") ? content.type : "" }));
    return true;
  }

  /** Choose what the options of an earlier job say, as far as the form has it. */
  useOptions(options) {
    const [, number] = options.face.match(/^(?:index:)?(\d+)$/) ?? [];
    const chosen = {
      engine: options.engine, loop: options.loop, which: number ?? options.face.split(":")[0],
      "idle-mouths": options.idle_mouths, "subtitles-output": options.subtitles ?? "",
    };
    for (const [id, value] of Object.entries(chosen)) {
      if (![...byId(id).options].some((option) => option.value === value)) continue;
      byId(id).value = value;
      byId(id).dispatchEvent(new Event("change"));
    }
    const marked = options.face.startsWith("points:") && options.face.slice("points:".length).split(",").map(Number);
    if (marked) this.aim("points", Object.fromEntries(MARKS.map((name, number) => [name, marked.slice(2 * number, 2 * number + 2)])));
    for (const name of Object.keys(MOVEMENT)) setValue(byId(name), options[name]);
    byId("keep-sound").checked = options.background_gain_db !== null;
    byId("visible-label").checked = options.visible_label;
    this.picture.use(options);
  }

  /** Submit a cancelled job again. After a reload only its face is known: the form then asks for the speech. */
  async retry(job) {
    const fields = this.sent.get(job.id);
    if (fields) await this.send(fields);
    else await this.useJob(job);
  }

  keepBox() {
    this.keep = h("input", { type: "checkbox", id: "keep" });
    return (this.keepLabel = h("label", { class: "check" }, this.keep, h("span", { "data-text": "keepAvatar" }, t("keepAvatar"))));
  }

  /** Begin with what the chosen avatar is saved with; null without an avatar. */
  useSettings(avatar) {
    this.picture.background.useAvatar(avatar);
    for (const [name, usual] of Object.entries(MOVEMENT)) setValue(byId(name), avatar?.[name] ?? usual);
  }

  /** Offer what the chosen face allows. */
  faceChanged() {
    const source = this.avatars.chosen ?? this.face.file;
    this.several.use(isVideo(source) ? source : null);
    this.showParts();
  }

  /** Show the parts of the form that have an effect. */
  showParts() {
    const [avatar, { isOn }] = [this.avatars.chosen, this.several];
    this.keepLabel.hidden = !this.face.file || Boolean(avatar) || isOn;
    byId("which-face").hidden = Boolean(avatar) || isOn;
    const source = avatar ?? this.face.file;
    const isStill = Boolean(source) && !isVideo(source);
    byId("still-motion").hidden = !isStill; // only stills have a motion of their own
    for (const select of Object.values(this.acting)) select.parentElement.hidden = !isStill;
    byId("length").hidden = isOn || isStill || this.speech.kind === "translation"; // the result is as long as the video, or as the speech
    byId("keep-sound").parentElement.hidden = isStill;
    byId("which").querySelector("[value=points]").disabled = Boolean(source) && !isStill;
    if (source && !isStill && byId("which").value === "points") this.aim("largest");
    byId("idle").hidden = byId("texts").hidden = !isOn;
    byId("speech").style.minHeight = isOn ? `${byId("speech").getBoundingClientRect().height}px` : ""; // nothing below moves
    this.speechParts.single.hidden = isOn;
    this.speechParts.everyone.hidden = !isOn;
    notice(byId("composer-error"), "");
  }

  /** Where the texts are shown, if there are any. */
  texts() {
    const place = byId("subtitles-output").value;
    return place && this.several.hasTexts ? { subtitles_output: place } : {};
  }

  showEngines() {
    const chosen = byId("engine").value;
    byId("engine").replaceChildren(...this.engines.map((engine) => {
      const { title } = described(engine);
      return h("option", { value: engine.name }, engine.is_default ? t("engineDefault", { title })
        : engine.is_installed ? title : t("engineMissing", { title }));
    }));
    byId("engine").value = chosen || this.engines.find((engine) => engine.is_default)?.name || "";
    this.showEngineNote();
  }

  showEngineNote() {
    const engine = this.engines.find(({ name }) => name === byId("engine").value);
    byId("movement").hidden = !engine?.scales_movement;
    const missing = engine?.missing.filter((role) => role.is_required) ?? [];
    notice(byId("engine-note"), missing.length && !engine.is_installed
      ? t("engineNote", { what: missing.map((role) => role.title).join(", "), command: missing[0].add_command })
      : engine ? described(engine).description : "");
  }

  async submit() {
    const problem = this.problem();
    if (problem) {
      notice(byId("composer-error"), t(problem));
      if (problem === this.picture.problem) byId("options").open = true;
      if (problem === "needRate") byId("rare").open = true;
      return;
    }
    if (this.several.isOn) {
      await this.send({ ...this.options(), idle_mouths: byId("idle-mouths").value, ...this.texts(), ...this.several.fields });
      return;
    }
    const avatar = this.avatars.chosen;
    await this.send(async () => {
      const playback = this.speech.kind === "translation" ? {} : this.playback(avatar);
      const options = { ...this.options(), ...playback }; // before the avatar is saved, which resets the form
      const face = avatar ? { avatar_id: avatar.id } : await this.avatarFields();
      return { ...options, ...face, ...this.speech.fields };
    });
  }

  /** Return the key of the text that says what is missing; null if nothing is. */
  problem() {
    if (this.several.isOn) return this.several.check() ?? this.picture.problem;
    if (!this.speech.isGiven) return this.speech.kind === "translation" ? "needLanguage" : "needSpeech";
    if (!this.avatars.chosen && !this.face.file) return "needFace";
    if (this.speech.kind === "translation" && !isVideo(this.avatars.chosen ?? this.face.file)) return "needVideo";
    if (!this.avatars.chosen && !this.faceFields()) return "needPoint";
    return this.picture.problem;
  }

  /** Submit a job. `fields` may be a function that makes them. */
  async send(fields) {
    const error = byId("composer-error");
    notice(error, "");
    this.setBusy(true);
    try {
      const given = typeof fields === "function" ? await fields() : fields;
      const job = await send("/v1/jobs", given, (share) => this.showSent(share));
      this.sent.set(job.id, given);
      this.onJob(job);
    } catch (refused) {
      if (refused.status === 401) this.onRefused(refused);
      else notice(error, refused.message);
    } finally {
      this.setBusy(false);
    }
  }

  /** The face of the form: a file, or an avatar if it is to be kept. */
  async avatarFields() {
    if (!this.keep.checked) return { video: this.face.file };
    const fields = { video: this.face.file, ...this.faceFields(), ...this.picture.saved, ...this.movement() };
    const avatar = await send("/v1/avatars", fields, (share) => this.showSent(share));
    this.keep.checked = false;
    await this.avatars.refresh();
    this.avatars.choose(this.avatars.avatars.find(({ id }) => id === avatar.id) ?? null);
    const sent = fields.background_file && { background_file: null, background_id: avatar.background_id }; // not again
    return { avatar_id: avatar.id, ...sent };
  }

  options() {
    const options = {
      engine: byId("engine").value,
      background_gain_db: !byId("keep-sound").parentElement.hidden && byId("keep-sound").checked && "-6",
      visible_label: byId("visible-label").checked && "true",
      ...this.picture.fields,
    };
    return { ...options, ...this.movement() };
  }

  /** What is chosen of how the face moves. */
  movement() {
    return Object.fromEntries(Object.keys(MOVEMENT).filter((name) => !byId(name).parentElement.hidden).map((name) => [name, byId(name).value]));
  }

  /** Options of a job with one speech. */
  playback(avatar) {
    const loop = byId("loop").value;
    return avatar || this.keep.checked ? { loop } : { loop, ...this.faceFields() };
  }

  /** Fields of the API that choose the face; null while no point is chosen. */
  faceFields() {
    const [{ value }, { faceAt, marks }] = [byId("which"), this.face];
    if (value === "points") return marks && { face_points: JSON.stringify(marks) };
    return value === "point" ? faceAt && { face: `point:${faceAt.x},${faceAt.y}` } : { face: value };
  }

  setBusy(isBusy) {
    byId("submit").disabled = isBusy; // which takes the focus from it
    if (isBusy) return;
    byId("submit").textContent = t("create");
    if (document.activeElement === document.body) byId("submit").focus({ preventScroll: true });
  }

  showSent(share) {
    byId("submit").textContent = share < 1 ? t("uploading", { percent: Math.floor(100 * share) }) : t("checking");
  }
}

/** Title of an engine in the page's language, with the name of its variant, and what it does. */
function described({ name, title }) {
  const [base, variant] = name.split(":");
  const [known, description = ""] = (knows(`engines.${base}`) ? t(`engines.${base}`) : title).split(/[:：]\s*/, 2);
  return { title: variant ? `${known} (${variant})` : known, description };
}
