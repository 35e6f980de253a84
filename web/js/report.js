// Shows the quality report in words.

import { h } from "./dom.js";
import { knows, locale, t } from "./i18n.js";

/** What a job's report means, as an element. */
export function reportView(report) {
  const notes = [...warnings(report)];
  return h("section", { class: "report" },
    h("h3", {}, t("quality")),
    h("p", { class: notes.length ? "verdict note" : "verdict good" }, notes.length ? t("qualityNotes") : t("qualityGood")),
    notes.length > 0 && h("ul", {}, notes.map((note) => h("li", {}, note))),
    h("details", {}, h("summary", {}, t("qualityNumbers")), h("ul", {}, [...facts(report)].map((fact) => h("li", {}, fact)))));
}

const say = (key, values) => t(`report.${key}`, values);
const percent = (share) => new Intl.NumberFormat(locale(), { style: "percent", maximumFractionDigits: 0 }).format(share);
const NOTICED_MS = 45; // ITU-R BT.1359-1, as in the report itself

function* facts({ output, source, mouth, face, exemplars }) {
  const [over, under = 1] = output.fps.split("/").map(Number);
  const fps = Math.round((100 * over) / under) / 100;
  yield say("length", { frames: output.num_frames, fps, seconds: output.duration_seconds.toFixed(2) });
  if (face.eye_distance_px !== null) yield say("face", { pixels: Math.round(face.eye_distance_px) });
  if (!source.talks) yield say("drawn");
  else if (source.calibration === "own speech") yield say("ownSpeech", { seconds: source.own_speech_seconds.toFixed(1) });
  else yield say("average");
  if (source.learned_seconds) yield say("ownWay", { seconds: source.learned_seconds.toFixed(1) });
  if (source.audio_offset_ms !== null && Math.abs(source.audio_offset_ms) < NOTICED_MS) yield say("inTime", { ms: Math.round(source.audio_offset_ms) });
  const frames = mouth.num_speech_frames + mouth.num_silent_frames;
  if (frames) yield say("silence", { share: percent(mouth.num_silent_frames / frames) });
  if (exemplars.num_kept) yield say("mouths", { used: exemplars.num_used, kept: exemplars.num_kept });
}

function* warnings({ source, mouth, face, exemplars }) {
  const offset = source.audio_offset_ms;
  if (offset !== null && Math.abs(offset) >= NOTICED_MS) {
    const [direction, use] = [offset > 0 ? "late" : "early", source.calibration === "own speech" ? "corrected" : "notUsed"];
    yield say("offset", { ms: Math.abs(Math.round(offset)), direction: say(direction), use: say(use) });
  }
  if (!source.shows_closed_mouth) yield say("neverClosed");
  for (const [reason, frames] of Object.entries(face.num_frames_passed)) {
    const why = knows(`report.reasons.${reason}`) ? say(`reasons.${reason}`) : reason;
    yield say(frames === 1 ? "passedOne" : "passed", { frames, why });
  }
  if (face.num_frames_passed_open) yield say("passedOpen", { frames: face.num_frames_passed_open });
  if (face.size === "tiny" || face.size === "small") yield say(face.size);
  for (const [angles, how] of [[face.yaw_degrees, "aside"], [face.pitch_degrees, "upDown"]]) {
    const most = Math.max(0, ...(angles ?? []).map(Math.abs));
    if (most > 30) yield say("turned", { degrees: Math.round(most), how: say(how) });
  }
  if (!mouth.num_speech_frames && mouth.num_silent_frames) yield say("noSpeech");
  if ((mouth.open_share_silence ?? 0) > 0.05) yield say("openInSilence", { share: percent(mouth.open_share_silence) });
  if (source.talks && (exemplars.drawn_interior_share ?? 0) > 0.25) yield say("drawnOften", { share: percent(exemplars.drawn_interior_share) });
}
