// Shows the quality report in words.

import { h } from "./dom.js";
import { clock, knows, locale, t } from "./i18n.js";
import { faceName } from "./person.js";

/** What a job's report means, as an element. */
export function reportView(report) {
  const notes = [...outputWarnings(report.output), ...ofPeople(report, warnings)];
  return h("section", { class: "report" },
    h("h3", {}, t("quality")),
    h("p", { class: notes.length ? "verdict note" : "verdict good" }, notes.length ? t("qualityNotes") : t("qualityGood")),
    notes.length > 0 && h("ul", {}, notes.map((note) => h("li", {}, note))),
    h("details", {}, h("summary", {}, t("qualityNumbers")), h("ul", {}, [length(report.output), ...ofPeople(report, facts)].map((fact) => h("li", {}, fact)))));
}

const say = (key, values) => t(`report.${key}`, values);
const percent = (share) => new Intl.NumberFormat(locale(), { style: "percent", maximumFractionDigits: 0 }).format(share);
const NUM_TIMES = 5; // of cut texts that are listed
const NOTICED_MS = 45; // ITU-R BT.1359-1, as in the report itself

/** What `describe` says about the face of the report, or about each of several people, after their name. */
function ofPeople(report, describe) {
  const { speakers } = report;
  if (!(speakers?.length > 1)) return [...describe(report)];
  return speakers.flatMap((speaker) => {
    const name = faceName(speaker.face);
    return [...describe({ ...speaker, face: speaker.seen })].map((text) => say("ofPerson", { name, text }));
  });
}

function length({ fps: rate, num_frames: frames, duration_seconds: seconds }) {
  const [over, under = 1] = rate.split("/").map(Number);
  return say("length", { frames, fps: Math.round((100 * over) / under) / 100, seconds: seconds.toFixed(2) });
}

function* outputWarnings({ cut_texts: cut = [] }) {
  if (cut.length) yield say("cutTexts", { number: cut.length, times: cut.slice(0, NUM_TIMES).map(({ start_seconds: at }) => clock(at)).join(", ") });
}

function* facts({ source, mouth, face, exemplars }) {
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
  for (const [reason, frames] of Object.entries(face.num_frames_skipped)) {
    const why = knows(`report.reasons.${reason}`) ? say(`reasons.${reason}`) : reason;
    yield say(frames === 1 ? "passedOne" : "passed", { frames, why });
  }
  if (face.num_frames_skipped_open) yield say("passedOpen", { frames: face.num_frames_skipped_open });
  if (face.size === "tiny" || face.size === "small") yield say(face.size);
  for (const [angles, how] of [[face.yaw_degrees, "aside"], [face.pitch_degrees, "upDown"]]) {
    const most = Math.max(0, ...(angles ?? []).map(Math.abs));
    if (most > 30) yield say("turned", { degrees: Math.round(most), how: say(how) });
  }
  if (!mouth.num_speech_frames && mouth.num_silent_frames) yield say("noSpeech");
  if ((mouth.open_share_silence ?? 0) > 0.05) yield say("openInSilence", { share: percent(mouth.open_share_silence) });
  if (source.talks && (exemplars.drawn_interior_share ?? 0) > 0.25) yield say("drawnOften", { share: percent(exemplars.drawn_interior_share) });
}
