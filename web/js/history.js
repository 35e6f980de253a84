// The videos that were made here, the newest first. The list is one of summaries; a job is read when it is opened.

import { explain, isFinal, request } from "./api.js";
import { byId, h } from "./dom.js";
import { timestamp, onLanguage, t } from "./i18n.js";
import { jobName } from "./job_view.js";
import { showThumbnail } from "./thumbnail.js";

const LOOK_MS = 4000;
const PAGE_JOBS = 48;
const MAX_JOBS = 500; // that the service lists at once

/** The grid of jobs, one page more with each press of the button below it. */
export class History {
  /** @param onOpen Called with the ID of the job that is to be shown. */
  constructor(list, onOpen) {
    this.list = list;
    this.onOpen = onOpen;
    this.jobs = [];
    this.after = null; // where the next page starts; null if there is none
    this.more = byId("more");
    this.more.addEventListener("click", () => this.showMore().catch(() => {}));
    this.sight = new IntersectionObserver((entries) => entries.filter(({ isIntersecting }) => isIntersecting).forEach(({ target }) => this.showSource(target)));
    onLanguage(() => this.show());
    document.addEventListener("visibilitychange", () => document.hidden || this.refresh().catch(() => {}));
  }

  /** Ask the service; again and again while something is unfinished. What was loaded before stays. */
  async refresh() {
    const oldest = this.jobs.findLastIndex((job) => !isFinal(job));
    const { jobs, next_after: after } = await request("GET", `/v1/jobs?limit=${Math.min(MAX_JOBS, Math.max(PAGE_JOBS, oldest + 1))}`);
    const place = this.jobs.findIndex(({ id }) => id === jobs.at(-1)?.id);
    const older = place < 0 ? [] : this.jobs.slice(place + 1);
    if (!older.length) this.after = after;
    this.jobs = [...jobs, ...older];
    this.show();
    this.lookLater();
  }

  /** Load the next page, and go on there with the keyboard. */
  async showMore() {
    const { jobs, next_after: after } = await request("GET", `/v1/jobs?limit=${PAGE_JOBS}&after=${this.after}`);
    const known = new Set(this.jobs.map(({ id }) => id));
    const added = jobs.filter(({ id }) => !known.has(id));
    this.jobs.push(...added);
    this.after = after;
    this.show();
    if (added.length) this.list.querySelector(`[data-id="${added[0].id}"] button`).focus();
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
    if (place >= 0) this.jobs[place] = job;
    else if (!this.jobs.length || new Date(job.created_at) >= new Date(this.jobs[0].created_at)) this.jobs.unshift(job);
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
      this.fill(item, job);
      return item;
    });
    if (items.length !== this.list.children.length || items.some((item, place) => this.list.children[place] !== item)) {
      const focused = document.activeElement;
      this.list.replaceChildren(...items);
      if (this.list.contains(focused)) focused.focus({ preventScroll: true }); // moving it has taken the focus
    }
    byId("no-jobs").hidden = items.length > 0;
    this.more.hidden = this.after === null;
  }

  card(job) {
    const button = h("button", { type: "button", class: "video", onclick: () => this.onOpen(job.id) },
      h("span", { class: "thumb" }), h("span", { class: "name" }), h("span", { class: "why" }), h("span", { class: "hint" }));
    const item = h("li", {}, button);
    item.dataset.id = job.id;
    item.source = job.links.source;
    this.sight.observe(item);
    return item;
  }

  fill(item, job) {
    const [thumb, name, why, note] = item.querySelectorAll(".thumb, .name, .why, .hint");
    name.textContent = jobName(job);
    why.textContent = job.status === "failed" ? firstSentence(explain(job.error.code, job.error.message)) : "";
    note.textContent = `${t(`tile.${job.status}`, { percent: Math.floor(100 * job.progress) })} · ${timestamp(job.created_at)}`;
    item.dataset.status = job.status;
    if (job.status !== "succeeded" || thumb.dataset.isResult) return;
    thumb.dataset.isResult = "true";
    this.sight.unobserve(item);
    thumb.replaceChildren(h("img", { src: `${job.links.self}/thumbnail`, alt: "", loading: "lazy", onerror: (event) => event.target.remove() }));
  }

  /** Show the face of a job that has no result, once its tile is seen. */
  showSource(item) {
    this.sight.unobserve(item);
    const picture = h("span");
    item.querySelector(".thumb").append(picture);
    showThumbnail(item.source, picture);
  }
}

/** The first sentence of an error, without the name of its file. */
function firstSentence(text) {
  const [, sentence] = text.match(/^(?:[^:：]{1,80}\.\w{2,4}[:：]\s*)?(.*?[.。])(?=\s|$|\P{ASCII})/u) ?? [null, text];
  return sentence;
}
