// Shows the quality report in words.

import { h } from "./dom.js";
import { locale, t } from "./i18n.js";
import { REPORT } from "./report_strings.js";

/** What a job's report means, as an element. */
export function reportView(report) {
  const words = REPORT[locale() === "en" ? "en" : "zh"];
  const notes = [...warnings(report, words)];
  return h("section", { class: "report" },
    h("h3", {}, t("quality")),
    h("p", { class: notes.length ? "verdict note" : "verdict good" }, notes.length ? t("qualityNotes") : t("qualityGood")),
    notes.length > 0 && h("ul", {}, notes.map((note) => h("li", {}, note))),
    h("details", {}, h("summary", {}, t("qualityNumbers")), h("ul", {}, [...facts(report, words)].map((fact) => h("li", {}, fact)))));
}

const percent = (share) => new Intl.NumberFormat(locale(), { style: "percent", maximumFractionDigits: 0 }).format(share);
const NOTICED_MS = 45; // ITU-R BT.1359-1, as in the report itself

function* facts({ output, source, mouth, face, exemplars }, words) {
  const [over, under = 1] = output.fps.split("/").map(Number);
  const fps = Math.round((100 * over) / under) / 100;
  yield words.length(output.num_frames, fps, output.duration_seconds.toFixed(2));
  if (face.eye_distance_px !== null) yield words.face(Math.round(face.eye_distance_px));
  if (!source.talks) yield words.drawn;
  else if (source.calibration === "own speech") yield words.ownSpeech(source.own_speech_seconds.toFixed(1));
  else yield words.average;
  if (source.learned_seconds) yield words.ownWay(source.learned_seconds.toFixed(1));
  if (source.audio_offset_ms !== null && Math.abs(source.audio_offset_ms) < NOTICED_MS) yield words.inTime(Math.round(source.audio_offset_ms));
  const frames = mouth.num_speech_frames + mouth.num_silent_frames;
  if (frames) yield words.silence(percent(mouth.num_silent_frames / frames));
  if (exemplars.num_kept) yield words.mouths(exemplars.num_used, exemplars.num_kept);
}

function* warnings({ source, mouth, face, exemplars }, words) {
  const offset = source.audio_offset_ms;
  if (offset !== null && Math.abs(offset) >= NOTICED_MS) yield words.offset(Math.abs(Math.round(offset)), offset > 0, source.calibration === "own speech");
  if (!source.shows_closed_mouth) yield words.neverClosed;
  for (const [reason, frames] of Object.entries(face.num_frames_passed)) yield words.passed(frames, words.reasons[reason] ?? reason);
  if (face.num_frames_passed_open) yield words.passedOpen(face.num_frames_passed_open);
  if (face.size === "tiny" || face.size === "small") yield words[face.size];
  for (const [angles, how] of [[face.yaw_degrees, words.aside], [face.pitch_degrees, words.upDown]]) {
    const most = Math.max(0, ...(angles ?? []).map(Math.abs));
    if (most > 30) yield words.turned(Math.round(most), how);
  }
  if (!mouth.num_speech_frames && mouth.num_silent_frames) yield words.noSpeech;
  if ((mouth.open_share_silence ?? 0) > 0.05) yield words.openInSilence(percent(mouth.open_share_silence));
  if (source.talks && (exemplars.drawn_interior_share ?? 0) > 0.25) yield words.drawnOften(percent(exemplars.drawn_interior_share));
}
