// One job: its progress, and its result beside the original.

import { explain, follow, isFinal, mediaType, request } from "./api.js";
import { ask } from "./confirm.js";
import { byId, h, notice } from "./dom.js";
import { clock, duration, onLanguage, t } from "./i18n.js";
import { reportView } from "./report.js";
import { ResultView } from "./result_view.js";
import { Review } from "./review.js";

const OF_INPUTS = ["face_not_found", "media_invalid", "media_too_large", "option_invalid", "input_invalid"]; // errors
const FORMATS = { mp4: "MP4", webm: "WebM", mov: "MOV" };

/** Display name of a job: speech and face. */
export const jobName = (job) =>
  [job.inputs.audio.replace(/\.\w+$/, ""), job.inputs.source.replace(/\.\w+$/, "")].filter(Boolean).join(" · ") || job.id.slice(0, 8);

/** Shows one job at a time in `place`. */
export class JobView {
  /**
   * @param listeners `changed` gets the job at each change, `removed` the ID of a deleted job, `refused` an error,
   *   `again`, `edit` and `retry` the job whose button was clicked, `accepted` the job that a retry or a revision has
   *   made, `shown` the ID of the job on display (null for none).
   */
  constructor(place, { changed, removed, refused, again, edit, retry, accepted, shown }) {
    Object.assign(this, { place, changed, removed, refused, again, edit, retry, accepted, shown });
    this.job = null;
    this.stop = () => {};
    this.result = this.review = null;
    this.showNothing();
    onLanguage(() => (this.job ? this.update(this.job) : this.showNothing()));
  }

  /** Show `job` and follow its events. */
  open(job) {
    this.close();
    this.job = job;
    this.shown(job.id);
    this.build(job);
    this.update(job);
    if (isFinal(job)) return;
    this.stop = follow(job, (now) => this.update(now), (error) => this.refused(error));
  }

  /** Stop following the job. The job continues. */
  close() {
    this.stop();
    this.result?.close();
    this.review?.close();
    this.stop = () => {};
    this.job = this.result = this.review = this.renderingSince = null;
  }

  showNothing() {
    this.place.replaceChildren(h("div", { class: "nothing" },
      h("img", { src: `${document.querySelector('link[rel="icon"]').href}`, alt: "", width: 72, height: 72 }),
      h("h2", { id: "stage-title", tabIndex: -1 }, t("nothingYet")), h("p", { class: "hint" }, t("nothingYetLead"))));
  }

  build(job) {
    this.title = h("h2", { id: "stage-title", tabIndex: -1 });
    this.status = h("p", { class: "status" });
    this.bar = h("progress", { max: 1 });
    this.result = new ResultView(job);
    this.original = h("div", { class: "screen" });
    this.hasOriginal = false;
    this.originalCaption = h("figcaption");
    this.actions = h("div", { class: "actions" });
    this.error = h("p", { class: "notice bad", role: "alert", hidden: true });
    this.detail = h("p", { class: "hint" });
    this.detailSummary = h("summary");
    this.details = h("details", {}, this.detailSummary, this.detail);
    this.report = h("div");
    this.source = h("figure", {}, this.original, this.originalCaption);
    this.screens = h("div", { class: "screens" }, this.result.element, this.actions, this.source);
    this.place.replaceChildren(this.title, this.status, this.bar, this.error, this.details, this.screens, this.report);
  }

  update(job) {
    this.changed(job);
    if (job.id !== this.job?.id) return; // another one has been opened
    this.job = job;
    this.title.textContent = jobName(job);
    this.status.textContent = [statusText(job), this.timeLeft(job)].filter(Boolean).join(" · ");
    this.status.dataset.status = job.status;
    this.bar.setAttribute("aria-label", t("progress"));
    this.bar.hidden = isFinal(job) || job.status === "review";
    this.bar.value = job.progress;
    this.originalCaption.textContent = t("original");
    const hasNoResult = job.status === "failed" || job.status === "cancelled";
    this.showError(job);
    this.result.element.hidden = hasNoResult;
    this.screens.classList.toggle("source-only", hasNoResult);
    if (hasNoResult) this.result.close();
    else this.result.update(job);
    this.showActions(job);
    this.showReview(job);
    this.announce(job);
    this.report.replaceChildren(job.report && job.status === "succeeded" ? reportView(job.report) : "");
    if (job.status === "queued") this.showWait(job);
  }

  /** Show the turns of a job in review in place of its result. */
  showReview(job) {
    const isInReview = job.status === "review";
    this.screens.hidden = isInReview;
    if (isInReview && this.review) this.review.translate();
    else if (isInReview) {
      this.review = new Review(job, (approved) => {
        this.update(approved);
        this.title.focus();
      });
      this.review.side.append(this.actions);
      this.screens.before(this.review.element);
    } else if (this.review) {
      this.review.close();
      this.review.element.remove();
      this.review = null;
      this.source.before(this.actions);
    }
    if (isInReview || this.hasOriginal) return;
    this.hasOriginal = true;
    this.showOriginal(job);
  }

  /** Say why the job failed: first what that means, then, folded, the service's own words. */
  showError({ status, error }) {
    const text = status === "failed" ? explain(error.code, error.message) : "";
    notice(this.error, text);
    this.detailSummary.textContent = t("qualityNumbers");
    this.detail.textContent = error?.message ?? "";
    this.details.hidden = !text || text.includes(error.message.replace(/[.\s]*$/, ""));
  }

  async showWait(job) {
    const status = await request("GET", "/v1/status").catch(() => null);
    const wait = status && Math.round(status.estimated_wait_s);
    if (wait && this.job?.id === job.id && this.job.status === "queued" && job.queue_position > 0) {
      this.status.textContent = t("stageQueuedWait", { ahead: job.queue_position, time: duration(wait) });
    }
  }

  /** How long the other frames take at the rate since rendering was first seen; empty if that is not known yet. */
  timeLeft({ stage, status, num_frames_done: done, num_frames: total }) {
    if (status !== "running" || stage !== "rendering") return "";
    const now = performance.now();
    this.renderingSince ??= { now, done };
    const perMs = (done - this.renderingSince.done) / (now - this.renderingSince.now);
    return perMs > 0 && done < total ? t("timeLeft", { time: duration((total - done) / perMs / 1000) }) : "";
  }

  /** Tell screen readers what happens, but not each frame. */
  announce(job) {
    const text = statusText({ ...job, num_frames: null, num_cues: null });
    if (byId("announcement").textContent !== text) byId("announcement").textContent = text;
  }

  async showOriginal(job) {
    const { result } = this;
    const type = await mediaType(job.links.source);
    if (result !== this.result) return; // another job has been opened
    this.source.hidden = !type;
    if (!type) return;
    const view = type.startsWith("image/") ? h("img", { src: job.links.source, alt: t("original") })
      : h("video", { src: job.links.source, muted: true, loop: true, playsInline: true, preload: "metadata", controls: job.status === "failed", "aria-label": t("original") });
    this.original.replaceChildren(view);
    if (!(view instanceof HTMLVideoElement)) return;
    const { video } = result;
    video.addEventListener("playing", () => view.play().catch(() => {}));
    for (const name of ["pause", "waiting", "ended"]) video.addEventListener(name, () => view.pause());
    if (!video.paused) view.play().catch(() => {});
  }

  showActions(job) {
    const button = (key, action, kind = "") => h("button", { type: "button", class: kind, onclick: action }, t(key));
    const actions = isFinal(job)
      ? [job.status === "succeeded" && h("a", { class: "button main", href: `${job.links.video}?download=true`, download: "" }, t("download", { format: FORMATS[job.options.format] })),
        job.status === "succeeded" && job.links.subtitles && h("a", { class: "button", href: job.links.subtitles, download: "" }, t("downloadSubtitles")),
        ...this.repeats(job, button),
        button("remove", () => this.remove(), "danger")]
      : [button("cancel", () => this.cancel(), "danger")];
    const shown = `${isFinal(job)}${job.status}${document.documentElement.lang}`;
    if (this.actions.dataset.shown === shown) return; // keeps the focus
    const hadFocus = this.actions.contains(document.activeElement);
    this.actions.dataset.shown = shown;
    this.actions.replaceChildren(...actions.filter(Boolean));
    if (hadFocus) this.actions.firstChild.focus();
  }

  /** How to make the video again: of a failed job the service has the files, of a cancelled one only the face. */
  repeats(job, button) {
    const hasTexts = Boolean(job.links.subtitles);
    const revise = button("revise", (event) => this.makeNew(event.target, "revisions", { review: true }));
    if (job.status === "succeeded") return [hasTexts && revise, button("again", () => this.again(job))];
    if (job.status === "cancelled") return [button("retry", () => this.retry(job), "main"), button("again", () => this.again(job))];
    const helps = !OF_INPUTS.includes(job.error.code); // to send the same once more
    const retry = button("retry", (event) => this.makeNew(event.target, "retry"), helps ? "main" : "");
    const edit = button("edit", () => this.edit(job), helps ? "" : "main");
    return helps ? [retry, edit] : [edit, retry];
  }

  /** Make a new job of this one: `how` is the last part of the path. */
  async makeNew(button, how, changes = null) {
    button.disabled = true;
    const sent = changes && { headers: { "Content-Type": "application/json" }, body: JSON.stringify(changes) };
    await this.tried(async () => this.accepted(await request("POST", `/v1/jobs/${this.job.id}/${how}`, sent ?? {})));
    button.disabled = false;
  }

  async cancel() {
    await this.tried(async () => this.update(await request("POST", `/v1/jobs/${this.job.id}/cancel`)));
  }

  async remove() {
    const { job } = this;
    if (!(await ask(t("confirmDelete", { name: jobName(job) })))) return;
    await this.tried(async () => {
      await request("DELETE", `/v1/jobs/${job.id}`);
      this.removed(job.id);
      if (job.id !== this.job?.id) return;
      this.close();
      this.showNothing();
      this.shown(null);
      byId("stage-title").focus({ preventScroll: true });
    });
  }

  async tried(work) {
    const shown = this.error; // of this job
    try {
      await work();
    } catch (error) {
      notice(shown, error.message);
    }
  }
}

/** Status of a job in words. */
export function statusText(job) {
  if (job.status === "failed") return t("stageFailed");
  if (job.status === "cancelled") return t("stageCancelled");
  if (job.status === "review") return t("stageReview");
  if (job.status === "succeeded") return `${t("stageDone")}${tookText(job)}`;
  if (job.stage === "queued") return job.queue_position ? t("stageQueued", { ahead: job.queue_position }) : t("stageQueuedNext");
  if (job.stage === "rendering" && job.num_frames) return t("stageRenderingFrames", { done: job.num_frames_done, total: job.num_frames });
  if (job.stage === "speaking" && job.num_cues) return t("stageSpeakingCues", { done: job.num_cues_done, total: job.num_cues });
  return t(`stage${job.stage.replace(/(?:^|_)(\w)/g, (_, letter) => letter.toUpperCase())}`);
}

function tookText(job) {
  if (!job.report) return "";
  const took = (new Date(job.finished_at) - new Date(job.started_at)) / 1000;
  return ` · ${t("took", { seconds: job.report.output.duration_seconds.toFixed(1), took: took < 90 ? duration(took) : clock(took) })}`;
}
