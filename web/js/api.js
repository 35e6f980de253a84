// The HTTP API as the page uses it. The session's cookie goes along by itself.

import { knows, t } from "./i18n.js";

export const ROOT = document.querySelector('meta[name="root"]').content;

/** A refused or failed request; `message` is for people and says what to do. */
export class ApiError extends Error {
  constructor(status, problem) {
    const code = problem?.code ?? (status ? "internal" : "offline");
    super(status ? explain(code, problem?.detail) : t("offline"));
    this.status = status;
    this.code = code;
  }
}

/** What the service said of an error of this code, and what to do about it. */
export function explain(code, detail) {
  const advice = knows(`advice.${code}`) ? t(`advice.${code}`) : "";
  return [detail, advice].filter(Boolean).join(" ");
}

/** One request; the parsed JSON, or null where there is none. Raises `ApiError`. */
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

/** Send a form; `onProgress` gets the share that has been sent. The job or avatar. Raises `ApiError`. */
export function send(path, fields, onProgress) {
  const body = new FormData();
  for (const [name, value] of Object.entries(fields)) {
    if (value instanceof Blob) body.append(name, value, value.name);
    else if (value) body.append(name, value);
  }
  // fetch does not tell how much of a body is on its way.
  return new Promise((resolve, reject) => {
    const sender = new XMLHttpRequest();
    sender.open("POST", ROOT + path);
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
 * An EventSource mends a broken line itself, but gives up for good when it is refused: it is made anew then.
 *
 * @param onRefused Called with the `ApiError` when the job cannot be read either.
 * @returns How to stop.
 */
export function follow(job, onJob, onRefused) {
  let source, timer;
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
      tell(now);
      if (!isFinal(now)) listen();
    } catch (error) {
      onRefused(error);
      if (error.status !== 404) timer = setTimeout(look, RETRY_MS);
    }
  };
  listen();
  return () => {
    clearTimeout(timer);
    source.close();
  };
}

/** The media type of what lies at `url`, null when nothing does. */
export async function mediaType(url) {
  const answer = await fetch(url, { headers: { Range: "bytes=0-0" }, credentials: "same-origin" }).catch(() => null);
  return answer?.ok ? answer.headers.get("content-type") : null;
}

/** Whether nothing about the job changes any more. */
export const isFinal = (job) => ["succeeded", "failed", "cancelled"].includes(job.status);
