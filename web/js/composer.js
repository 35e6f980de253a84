// The form: speech, a face, options; what comes of it is a job.

import { request, send } from "./api.js";
import { byId, h, notice } from "./dom.js";
import { knows, onLanguage, t } from "./i18n.js";
import { FilePicker } from "./picker.js";
import { Avatars } from "./avatars.js";
import { SpeechInput } from "./speech.js";

/** The form of a new job. */
export class Composer {
  /** @param onJob Called with the job that was accepted, `onRefused` with an error that is not the form's. */
  constructor(form, onJob, onRefused) {
    this.form = form;
    this.onJob = onJob;
    this.onRefused = onRefused;
    this.engines = [];
    this.speech = new SpeechInput(byId("speech"), () => notice(byId("composer-error"), ""));
    const [avatars, face, keep] = [h("div", { class: "avatars", hidden: true }), h("div"), this.keepBox()];
    byId("face").append(avatars, face, keep);
    this.avatars = new Avatars(avatars, (avatar) => {
      face.hidden = Boolean(avatar);
      byId("which-face").hidden = Boolean(avatar);
      this.showKeep();
    });
    this.face = new FilePicker(face, "video", () => this.showKeep());
    this.showKeep();
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.submit();
    });
    byId("which").addEventListener("change", () => {
      this.face.aim(byId("which").value === "point");
      if (byId("which").value === "point") face.scrollIntoView({ block: "nearest" });
    });
    byId("engine").addEventListener("change", () => this.showEngineNote());
    onLanguage(() => this.showEngines());
  }

  /** Ask the service for engines and avatars. */
  async refresh() {
    this.engines = (await request("GET", "/v1/engines")).engines;
    this.showEngines();
    await Promise.all([this.avatars.refresh(), this.speech.refresh()]);
  }

  /** Take an avatar that was used before. */
  async useSource(job) {
    const answer = await fetch(job.links.source, { credentials: "same-origin" });
    if (!answer.ok) return;
    const content = await answer.blob();
    this.avatars.choose(null);
    this.face.take(new File([content], job.inputs.presenter || "avatar", { type: content.type }));
    byId("composer").focus();
  }

  keepBox() {
    this.keep = h("input", { type: "checkbox", id: "keep" });
    return (this.keepLabel = h("label", { class: "check" }, this.keep, h("span", { "data-text": "keepAvatar" }, t("keepAvatar"))));
  }

  showKeep() {
    this.keepLabel.hidden = !this.face?.file || Boolean(this.avatars?.chosen);
    notice(byId("composer-error"), "");
  }

  showEngines() {
    const chosen = byId("engine").value;
    byId("engine").replaceChildren(...this.engines.map((engine) => {
      const title = engineTitle(engine);
      return h("option", { value: engine.name }, engine.is_default ? t("engineDefault", { title })
        : engine.is_installed ? title : t("engineMissing", { title }));
    }));
    byId("engine").value = chosen || this.engines.find((engine) => engine.is_default)?.name || "";
    this.showEngineNote();
  }

  showEngineNote() {
    const engine = this.engines.find(({ name }) => name === byId("engine").value);
    const missing = engine?.missing.filter((role) => role.is_required) ?? [];
    notice(byId("engine-note"), missing.length && !engine.is_installed
      ? t("engineNote", { what: missing.map((role) => role.title).join(", "), command: missing[0].add_command }) : "");
  }

  async submit() {
    const error = byId("composer-error");
    const avatar = this.avatars.chosen;
    if (!this.speech.isGiven || (!this.face.file && !avatar)) {
      notice(error, t(this.speech.isGiven ? "needFace" : "needSpeech"));
      return;
    }
    if (!avatar && !this.faceChoice()) {
      notice(error, t("needPoint"));
      return;
    }
    notice(error, "");
    this.setBusy(true);
    try {
      const who = avatar ? { avatar_id: avatar.id } : await this.avatarFields();
      this.onJob(await send("/v1/jobs", { ...this.options(avatar), ...who, ...this.speech.fields }, (share) => this.showSent(share)));
    } catch (refused) {
      if (refused.status === 401) this.onRefused(refused);
      else notice(error, refused.message);
    } finally {
      this.setBusy(false);
    }
  }

  /** The face of the form: as a file, or kept first where that is wanted. */
  async avatarFields() {
    if (!this.keep.checked) return { video: this.face.file };
    const avatar = await send("/v1/avatars", { video: this.face.file, face: this.faceChoice() }, (share) => this.showSent(share));
    this.keep.checked = false;
    await this.avatars.refresh();
    this.avatars.choose(this.avatars.avatars.find(({ id }) => id === avatar.id) ?? null);
    return { avatar_id: avatar.id };
  }

  options(avatar) {
    const options = { engine: byId("engine").value, loop: byId("loop").value, visible_label: byId("visible-label").checked && "true" };
    return avatar || this.keep.checked ? options : { ...options, face: this.faceChoice() };
  }

  /** Which face of the source speaks, as the API says it; null while none was clicked on. */
  faceChoice() {
    const { value } = byId("which");
    if (value !== "point") return value;
    return this.face.faceAt && `point:${this.face.faceAt.x},${this.face.faceAt.y}`;
  }

  setBusy(isBusy) {
    byId("submit").disabled = isBusy;
    if (!isBusy) byId("submit").textContent = t("create");
  }

  showSent(share) {
    byId("submit").textContent = share < 1 ? t("uploading", { percent: Math.floor(100 * share) }) : t("checking");
  }
}

/** What an engine is, in the page's language where the page knows it; of a variant, with the variant's name. */
function engineTitle({ name, title }) {
  const [base, variant] = name.split(":");
  const known = knows(`engines.${base}`) ? t(`engines.${base}`) : title;
  return variant ? `${known} (${variant})` : known;
}
