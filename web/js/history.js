// The videos that were made here, the newest first.

import { isFinal, request, ROOT } from "./api.js";
import { byId, h } from "./dom.js";
import { timestamp, onLanguage } from "./i18n.js";
import { jobName, statusText } from "./job_view.js";

const LOOK_MS = 4000;
const NUM_JOBS = 48;

/** The grid of jobs. */
export class History {
  /** @param onOpen Called with the job that is to be shown. */
  constructor(list, onOpen) {
    this.list = list;
    this.onOpen = onOpen;
    this.jobs = [];
    onLanguage(() => this.show());
    document.addEventListener("visibilitychange", () => document.hidden || this.refresh().catch(() => {}));
  }

  /** Ask the service; again and again while something is unfinished. */
  async refresh() {
    this.jobs = (await request("GET", `/v1/jobs?limit=${NUM_JOBS}`)).jobs;
    this.show();
    this.lookLater();
  }

  /** Poll again later if a job is unfinished. */
  lookLater() {
    if (this.timer || document.hidden || this.jobs.every(isFinal)) return;
    this.timer = setTimeout(() => {
      this.timer = null;
      this.refresh().catch(() => this.lookLater());
    }, LOOK_MS);
  }

  /** Note how a job is now. */
  put(job) {
    const place = this.jobs.findIndex((known) => known.id === job.id);
    if (place < 0) this.jobs.unshift(job);
    else this.jobs[place] = job;
    this.show();
    this.lookLater();
  }

  /** Drop a job that was deleted. */
  drop(id) {
    this.jobs = this.jobs.filter((job) => job.id !== id);
    this.show();
  }

  show() {
    const known = new Map([...this.list.children].map((item) => [item.dataset.id, item]));
    const items = this.jobs.map((job) => {
      const item = known.get(job.id) ?? this.card(job);
      fill(item, job);
      return item;
    });
    if (items.length !== this.list.children.length || items.some((item, place) => this.list.children[place] !== item)) {
      this.list.replaceChildren(...items);
    }
    byId("no-jobs").hidden = items.length > 0;
  }

  card(job) {
    const button = h("button", { type: "button", class: "video", onclick: () => this.onOpen(this.jobs.find(({ id }) => id === job.id)) },
      h("span", { class: "thumb" }), h("span", { class: "name" }), h("span", { class: "hint" }));
    const item = h("li", {}, button);
    item.dataset.id = job.id;
    return item;
  }
}

function fill(item, job) {
  const [thumb, name, note] = item.querySelectorAll(".thumb, .name, .hint");
  name.textContent = jobName(job);
  note.textContent = `${statusText(job).split(" · ")[0]} · ${timestamp(job.created_at)}`;
  item.dataset.status = job.status;
  const hasPicture = job.num_frames_done > 0 && job.status !== "cancelled" && job.status !== "failed";
  if (hasPicture && !thumb.firstChild) {
    thumb.append(h("img", { src: `${ROOT}/v1/jobs/${job.id}/thumbnail`, alt: "", loading: "lazy", onerror: (event) => event.target.remove() }));
  }
}
