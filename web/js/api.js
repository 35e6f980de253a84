// Client of the HTTP API. The browser sends the session cookie.

import { knows, locale, t } from "./i18n.js";

export const ROOT = document.querySelector('meta[name="root"]').content;

/** A failed request; `message` is for the user and says what to do. */
export class ApiError extends Error {
  constructor(status, problem) {
    const code = problem?.code ?? (status ? "internal" : "offline");
    super(status ? explain(code, problem?.detail) : t("offline"));
    this.status = status;
    this.code = code;
    this.detail = problem?.detail ?? "";
  }
}

// Their advice says what happened. The service's detail is for operators.
const EXPLAINED = ["face_not_found", "media_invalid", "stage_timeout", "replica_lost", "stored_file_lost", "internal"];

/**
 * What went wrong, and what to do about it. The service's detail is in English: other languages show the advice for
 * the code alone, with the name of the file in question.
 */
export function explain(code, detail = "") {
  const advice = knows(`advice.${code}`) ? t(`advice.${code}`) : "";
  if (!advice) return detail;
  const [, file] = detail.match(/^([^:]{1,80}\.\w{2,4}): /) ?? [];
  if (locale() !== "en" || EXPLAINED.includes(code)) return file ? t("fileError", { file, advice }) : advice;
  return `${detail.replace(/[.\s]*$/, detail && ".")} ${advice}`.trim();
}

/** Send a request and return the parsed JSON, or null. Throws `ApiError`. */
export async function request(method, path, options = {}) {
  let answer;
  try {
    answer = await fetch(ROOT + path, { method, credentials: "same-origin", ...options });
  } catch {
    throw new ApiError(0);
  }
  const isJson = answer.status !== 204 && (answer.headers.get("content-type") ?? "").includes("json");
  const body = isJson ? await answer.json() : null;
  if (!answer.ok) throw new ApiError(answer.status, body);
  return body;
}

/** Upload a form and return the job or avatar. `onProgress` gets the share sent so far. Throws `ApiError`. */
export function send(path, fields, onProgress, method = "POST") {
  const body = new FormData();
  for (const [name, value] of Object.entries(fields)) {
    if (value instanceof Blob) body.append(name, value, value.name);
    else if (value) body.append(name, value);
  }
  // fetch has no upload progress.
  return new Promise((resolve, reject) => {
    const sender = new XMLHttpRequest();
    sender.open(method, ROOT + path);
    sender.responseType = "json";
    sender.upload.addEventListener("progress", (event) => onProgress(event.loaded / event.total));
    sender.addEventListener("error", () => reject(new ApiError(0)));
    sender.addEventListener("load", () => {
      if (sender.status < 300) resolve(sender.response);
      else reject(new ApiError(sender.status, sender.response));
    });
    sender.send(body);
  });
}

const RETRY_MS = 3000;

/**
 * Call `onJob` with the job at each change until it is final.
 *
 * EventSource reconnects by itself, but gives up after an error response: then it is created again.
 *
 * @param onRefused Called with the `ApiError` when the job cannot be read either.
 * @returns A function that stops following.
 */
export function follow(job, onJob, onRefused) {
  let source, timer;
  let isStopped = false;
  const tell = (now) => {
    if (isFinal(now)) source.close();
    onJob(now);
  };
  const listen = () => {
    source = new EventSource(job.links.events);
    source.addEventListener("job", (event) => tell(JSON.parse(event.data)));
    source.addEventListener("error", () => {
      if (source.readyState === EventSource.CLOSED) timer = setTimeout(look, RETRY_MS);
    });
  };
  const look = async () => {
    try {
      const now = await request("GET", `/v1/jobs/${job.id}`);
      if (isStopped) return;
      tell(now);
      if (!isFinal(now)) listen();
    } catch (error) {
      if (isStopped) return;
      onRefused(error);
      if (error.status !== 404) timer = setTimeout(look, RETRY_MS);
    }
  };
  listen();
  return () => {
    isStopped = true;
    clearTimeout(timer);
    source.close();
  };
}

/** Media type of the file at `url`; null if there is none. */
export async function mediaType(url) {
  const answer = await fetch(url, { headers: { Range: "bytes=0-0" }, credentials: "same-origin" }).catch(() => null);
  return answer?.ok ? answer.headers.get("content-type") : null;
}

/** Whether the job has ended. */
export const isFinal = (job) => ["succeeded", "failed", "cancelled"].includes(job.status);
