// A recording from the microphone or the camera, as a file.

import { t, clock } from "./i18n.js";
import { h } from "./dom.js";

const KINDS = {
  audio: ["audio/webm;codecs=opus", "audio/mp4", "audio/ogg;codecs=opus"],
  video: ["video/webm;codecs=vp8,opus", "video/mp4", "video/webm"],
};
const MAX_SECONDS = 600;

/** Whether this browser lets a page record here. */
export const canRecord = () => Boolean(navigator.mediaDevices?.getUserMedia && window.MediaRecorder);

/**
 * Show a recorder in `place` and record at once.
 *
 * @param kind "audio" or "video"; a video has its sound with it.
 * @returns {Promise<File|null|undefined>} The recording; null when it was discarded; undefined when something else was
 *   shown in its place, which also ends it. Rejects when the device may not be used.
 */
export async function record(kind, place) {
  const stream = await navigator.mediaDevices.getUserMedia({
    audio: true,
    video: kind === "video" && { width: { ideal: 1280 }, height: { ideal: 720 }, facingMode: "user" },
  });
  const type = KINDS[kind].find((name) => MediaRecorder.isTypeSupported(name));
  const recorder = new MediaRecorder(stream, type ? { mimeType: type } : {});
  const pieces = [];
  let isKept = true;
  recorder.addEventListener("dataavailable", (event) => pieces.push(event.data));
  const ended = new Promise((resolve) => recorder.addEventListener("stop", resolve));
  const meter = levelMeter(stream);
  const time = h("span", { role: "timer" });
  const stop = h("button", { type: "button", class: "main", onclick: () => recorder.stop() }, t("stop"));
  const discard = () => {
    isKept = false;
    recorder.stop();
  };
  const view = kind === "video" && h("video", { class: "mirror", muted: true, playsInline: true, srcObject: stream });
  place.replaceChildren(
    h("div", { class: "recorder" }, view,
      h("p", { class: "live" }, h("span", { class: "dot", "aria-hidden": "true" }), time, meter.element),
      kind === "video" && h("p", { class: "hint" }, t("faceHint")),
      h("div", { class: "actions" }, stop, h("button", { type: "button", class: "quiet", onclick: discard }, t("cancelRecording")))),
  );
  if (view) view.play();
  stop.focus();
  const started = performance.now();
  const tick = setInterval(() => {
    const seconds = (performance.now() - started) / 1000;
    time.textContent = t("recording", { time: clock(seconds) });
    meter.show();
    if (seconds > MAX_SECONDS || !stop.isConnected) recorder.stop();
  }, 100);
  recorder.start(1000);
  await ended;
  clearInterval(tick);
  meter.close();
  for (const track of stream.getTracks()) track.stop();
  if (!stop.isConnected) return undefined;
  if (!isKept) return null;
  const suffix = (recorder.mimeType.includes("mp4") && "mp4") || (recorder.mimeType.includes("ogg") && "ogg") || "webm";
  const name = t(kind === "audio" ? "recordedSpeech" : "recordedFace", { suffix });
  return new File(pieces, name, { type: recorder.mimeType.split(";")[0] });
}

function levelMeter(stream) {
  const context = new AudioContext();
  const analyser = context.createAnalyser();
  analyser.fftSize = 512;
  context.createMediaStreamSource(stream).connect(analyser);
  const samples = new Float32Array(analyser.fftSize);
  const element = h("meter", { min: 0, max: 1, "aria-hidden": "true" });
  return {
    element,
    show() {
      analyser.getFloatTimeDomainData(samples);
      element.value = Math.min(1, 3 * Math.sqrt(samples.reduce((sum, sample) => sum + sample * sample, 0) / samples.length));
    },
    close: () => context.close(),
  };
}
