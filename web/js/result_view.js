// What there is to see of a job: its preview or its first frame while it is rendered, then the result.

import { isFinal, ROOT } from "./api.js";
import { h } from "./dom.js";
import { t } from "./i18n.js";
import { canPreview, playPreview } from "./preview_player.js";
import { showThumbnail } from "./thumbnail.js";

const RETRY_MS = 1000; // until a broken preview is requested again

/** The screen of one job, a `figure`. */
export class ResultView {
  constructor(job) {
    this.job = job;
    this.isPreviewing = this.hasResult = false;
    this.endPreview = () => {};
    this.video = h("video", { controls: true, playsInline: true, preload: "metadata", hidden: true });
    this.still = h("img", { hidden: true, onload: () => this.show(this.still), onerror: () => this.still.removeAttribute("src") });
    this.backdrop = h("div", { class: "backdrop" });
    this.placeholder = h("p", { class: "placeholder" }, h("span"));
    this.caption = h("figcaption");
    this.unplayable = h("p", { class: "hint", hidden: true });
    const screen = h("div", { class: "screen" }, this.backdrop, this.still, this.video, this.placeholder);
    screen.classList.toggle("transparent", job.options.background === "transparent");
    this.element = h("figure", {}, screen, this.caption, this.unplayable);
    this.video.addEventListener("loadeddata", () => this.show(this.video));
    this.video.addEventListener("ended", () => this.showResult());
    if (!isFinal(job)) showThumbnail(job.links.source, this.backdrop);
  }

  /** Show what there is of the job now. */
  update(job) {
    this.job = job;
    const { format } = job.options;
    const hasPreview = Boolean(job.links.preview) && canPreview();
    this.caption.textContent = t(this.still.hidden ? "result" : "firstFrame");
    this.still.alt = t("firstFrame");
    this.video.setAttribute("aria-label", t("result"));
    this.placeholder.firstChild.textContent = t(hasPreview ? "waiting" : format === "mov" ? "waitingForFile" : "waitingForEnd");
    this.unplayable.textContent = t(format === "mov" ? "notPlayable" : "notPlayableHere");
    if (!hasPreview) this.showStill();
    // Requested early: the response starts with the first segment.
    else if (job.status === "running" && job.stage === "rendering" && !this.isPreviewing) {
      this.isPreviewing = true;
      this.endPreview = playPreview(this.video, job.links.preview, () => {
        this.isPreviewing = false;
        this.showResult();
        this.retry = setTimeout(() => this.update(this.job), RETRY_MS); // there may be no other change of the job
      });
    }
    if (!this.isPreviewing) this.showResult();
  }

  /** End the preview. */
  close() {
    clearTimeout(this.retry);
    this.endPreview();
    this.endPreview = () => {};
  }

  /** Show the first frame as soon as it is rendered. */
  showStill() {
    if (!this.job.num_frames_done || this.hasResult || this.still.src) return;
    this.still.src = thumbnailOf(this.job);
  }

  /** Switch from the preview to the result, which is seekable and has the original audio. */
  showResult() {
    if (this.hasResult || this.job.status !== "succeeded") return;
    this.close();
    const { options, links } = this.job;
    if (canPlay(this.video, options.format)) {
      const poster = options.background === "transparent" ? "" : thumbnailOf(this.job); // a JPEG is opaque
      Object.assign(this.video, { poster, src: links.video });
      this.show(this.video);
    } else {
      this.showStill();
      this.unplayable.hidden = false;
    }
    this.hasResult = true;
    this.placeholder.hidden = true;
  }

  /** Show the video or the first frame alone. */
  show(view) {
    for (const other of [this.backdrop, this.still, this.video]) other.hidden = other !== view;
    this.placeholder.hidden = view === this.video || isFinal(this.job);
    this.caption.textContent = t(view === this.still ? "firstFrame" : "result");
  }
}

const thumbnailOf = (job) => `${ROOT}/v1/jobs/${job.id}/thumbnail`;

/** Whether this browser plays a format; none plays ProRes, and some play no WebM. */
const canPlay = (video, format) =>
  format === "mp4" || (format === "webm" && video.canPlayType('video/webm; codecs="vp9, opus"') !== "");
