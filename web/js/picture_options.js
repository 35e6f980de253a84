// Options of the picture: its background, its shape and the file format.

import { byId, notice } from "./dom.js";
import { FilePicker } from "./file_picker.js";
import { onLanguage, t } from "./i18n.js";

/** The part of the options that is about the picture. */
export class PictureOptions {
  /** @param onChange Called after each change. */
  constructor(onChange) {
    this.onChange = onChange;
    this.wanted = byId("format").value;
    this.file = new FilePicker(byId("background-file"), "background", () => this.changed());
    byId("background").addEventListener("change", () => this.changed());
    byId("format").addEventListener("change", () => {
      this.wanted = byId("format").value;
      this.changed();
    });
    onLanguage(() => this.show());
    this.show();
  }

  get background() {
    return byId("background").value;
  }

  changed() {
    this.show();
    this.onChange();
  }

  /** Show what the choices allow. MP4 gives way to WebM while the background is transparent. */
  show() {
    const isTransparent = this.background === "transparent";
    const isReplaced = isTransparent && this.wanted === "mp4";
    const format = isReplaced ? "webm" : this.wanted;
    offer(byId("format"), "mp4", !isTransparent);
    byId("format").value = format;
    offer(byId("subtitles-output"), "track", format !== "webm"); // WebM has no text tracks
    byId("background-colour").hidden = this.background !== "colour";
    byId("background-file").hidden = this.background !== "file";
    notice(byId("format-note"), { mp4: "", webm: t(isReplaced ? "formatTransparent" : "formatWebm"), mov: t("formatMov") }[format]);
  }

  /** Key of the text that says what is missing; null if nothing is. */
  get problem() {
    return this.background === "file" && !this.file.file ? "needBackground" : null;
  }

  /** Fields of the job. */
  get fields() {
    const background = { colour: { background: byId("colour").value }, file: { background_file: this.file.file } };
    return { ...(background[this.background] ?? { background: this.background }),
      crop: byId("crop").value, format: byId("format").value };
  }
}

/** Offer a choice, or hide it; another one is then chosen. */
function offer(select, value, isOffered) {
  const option = select.querySelector(`[value="${value}"]`);
  option.hidden = option.disabled = !isOffered;
  if (!isOffered && select.value === value) select.value = select.querySelector("option:enabled").value;
}
