// A place to drop, choose or record one file, which then shows what it holds.

import { markable } from "./face_marks.js";
import { pointable } from "./face_point.js";
import { h, notice } from "./dom.js";
import { onLanguage, t } from "./i18n.js";
import { canRecord, record } from "./recorder.js";

const KINDS = {
  audio: { accept: "audio/*,video/*", unfit: ["image", "notSpeech"], drop: "dropSpeech", hint: "fileKinds", record: "recordSpeech" },
  video: { accept: "video/*,image/*", unfit: ["audio", "notFace"], drop: "dropFace", hint: "faceKinds", record: "recordFace" },
  clip: { accept: "video/*", unfit: ["image", "notClip"], drop: "dropClip", hint: "clipKinds", record: "recordFace" },
  background: { accept: "video/*,image/*", unfit: ["audio", "notBackground"], drop: "dropBackground", hint: "backgroundKinds" },
  subtitles: { accept: ".srt,.vtt", drop: "dropSubtitles", hint: "subtitlesKinds" },
};
let numPickers = 0;

/** Whether a file or an avatar has more than one picture; true if that is not known yet. */
export const isVideo = (source) => (source instanceof File ? !/^(image|audio)\//.test(source.type) : Boolean(source) && !source.info?.is_still);

/** Let files be dropped on `element`: `onFile` gets the first one, unless an element inside has taken it. */
export function dropTarget(element, onFile) {
  for (const name of ["dragenter", "dragover"]) {
    element.addEventListener(name, (event) => {
      event.preventDefault();
      element.classList.add("over");
    });
  }
  element.addEventListener("dragleave", () => element.classList.remove("over"));
  element.addEventListener("drop", (event) => {
    element.classList.remove("over");
    const [file] = event.dataTransfer.files;
    if (file && !event.defaultPrevented) onFile(file);
    event.preventDefault();
  });
}

/** One input file of the form. */
export class FilePicker {
  /**
   * @param place The element to fill.
   * @param kind "audio", "video", "clip", "background" or "subtitles".
   * @param onChange Called after each change.
   * @param passOn Gets each file if given; the place is then free for the next one.
   */
  constructor(place, kind, onChange = () => {}, passOn = null) {
    Object.assign(this, { place, kind, onChange, passOn });
    this.file = null;
    this.url = null;
    this.aimed = null; // "point": clicks choose a face; "points": handles mark one
    this.faceAt = this.marks = null;
    this.id = `file-${(numPickers += 1)}`;
    this.error = h("p", { class: "notice bad", role: "alert", hidden: true });
    this.body = h("div");
    place.append(this.body, this.error);
    this.show();
    onLanguage(() => this.body.querySelector(".recorder") ?? this.show());
  }

  /** Take `file` (null: none). */
  take(file) {
    const complaint = file && this.complaintAbout(file);
    if (complaint) {
      notice(this.error, t(complaint, { name: file.name }));
      return;
    }
    notice(this.error, "");
    if (this.passOn) {
      this.show();
      if (file) this.passOn(file);
      return;
    }
    if (this.url) URL.revokeObjectURL(this.url);
    this.file = file;
    this.faceAt = this.marks = null;
    this.url = file && URL.createObjectURL(file);
    this.show();
    this.onChange();
  }

  /** The message about a file of the wrong kind; null if it may fit, also if its media type is unknown. */
  complaintAbout({ name, type }) {
    if (this.kind === "subtitles") return /\.(srt|vtt)$/i.test(name) ? null : "notSubtitles";
    const [unfit, message] = KINDS[this.kind].unfit;
    if (type.startsWith(`${unfit}/`)) return message;
    return type === "" || /^(audio|video|image)\//.test(type) ? null : "notMedia";
  }

  /** Let a face be chosen in the picture, see `aimed`; `marks` are the places to begin with. */
  aim(aimed, marks = null) {
    Object.assign(this, { aimed, marks, faceAt: null });
    this.show();
  }

  show() {
    const hadFocus = this.body.contains(document.activeElement);
    this.body.replaceChildren(this.file ? this.chosen() : this.empty());
    if (hadFocus) this.body.querySelector("input, button").focus();
  }

  empty() {
    const { accept, drop, hint, record } = KINDS[this.kind];
    const input = h("input", {
      type: "file",
      id: this.id,
      class: "sr-only",
      accept,
      onchange: (event) => event.target.files[0] && this.take(event.target.files[0]),
    });
    const zone = h("label", { class: "drop", htmlFor: this.id }, input,
      h("strong", {}, t(drop)), h("span", {}, t("orChoose")), h("span", { class: "hint" }, t(hint)));
    dropTarget(zone, (file) => this.take(file));
    const button = record && h("button", { type: "button", class: "quiet record", onclick: () => this.record() },
      h("span", { class: "dot", "aria-hidden": "true" }), t(record));
    return h("div", {}, zone, button);
  }

  chosen() {
    const name = this.file.name;
    const isPicture = this.file.type.startsWith("image/");
    const view = this.kind === "subtitles" ? "" : this.kind === "audio" ? h("audio", { src: this.url, controls: true, "aria-label": name })
      : isPicture ? h("img", { src: this.url, alt: name })
      : h("video", { src: this.url, controls: true, muted: true, playsInline: true, "aria-label": name });
    const shown = this.kind !== "video" ? view
      : this.aimed === "point" ? pointable(view, (place) => {
        this.faceAt = place;
        this.onChange();
      })
      : this.aimed === "points" && isPicture ? markable(view, this.marks, (marks) => (this.marks = marks)) : view;
    return h("div", { class: "chosen" }, shown,
      h("p", { class: "file" }, h("span", { class: "name" }, name),
        h("button", { type: "button", class: "quiet", "aria-label": t("removeFile", { name }), onclick: () => this.take(null) }, "✕")));
  }

  async record() {
    if (!canRecord()) {
      notice(this.error, t("insecure"));
      return;
    }
    notice(this.error, "");
    try {
      const file = await record(this.kind === "audio" ? "audio" : "video", this.body);
      if (file) this.take(file);
      else if (file === null) this.show();
    } catch {
      this.show();
      notice(this.error, t("noMicrophone"));
    }
  }
}
