// Options of the picture: its background, shape, size, frame rate and file format.

import { BackgroundChoice, offer } from "./background_choice.js";
import { byId, notice } from "./dom.js";
import { onLanguage, t } from "./i18n.js";

const OTHER = "other"; // a value that is entered
const MAX_PIXELS = 3840 * 2160;
const MAX_ASPECT = 4;
const SAME_ASPECT = 0.01; // relative difference of aspect ratios that the service takes for equal

/** The part of the options that is about the picture. */
export class PictureOptions {
  /** @param onChange Called after each change. */
  constructor(onChange) {
    this.onChange = onChange;
    this.wanted = byId("format").value;
    this.background = new BackgroundChoice(byId("behind"), { mayBeTransparent: true, onChange: () => this.changed() });
    for (const id of ["crop", "size", "fps"]) byId(id).addEventListener("change", () => this.changed());
    byId("format").addEventListener("change", () => {
      this.wanted = byId("format").value;
      this.changed();
    });
    onLanguage(() => this.show());
    this.show();
  }

  changed() {
    this.show();
    this.onChange();
  }

  /** Choose what the options of a job say. */
  use({ crop, size, fps, format, quality, background, matte }) {
    this.background.begin({ background, background_id: null, matte });
    byId("crop").value = crop ?? "";
    chooseOrEnter(byId("size"), size);
    [byId("width").value, byId("height").value] = (size ?? "x").split("x");
    chooseOrEnter(byId("fps"), fps && String(fps));
    byId("rate").value = fps ?? "";
    byId("format").value = this.wanted = format;
    byId("quality").value = quality;
    this.changed();
  }

  /** Show what the choices allow. MP4 gives way to WebM while the background is transparent. */
  show() {
    const isTransparent = this.background.value === "transparent";
    const isReplaced = isTransparent && this.wanted === "mp4";
    const format = isReplaced ? "webm" : this.wanted;
    const [crop, size] = [byId("crop"), byId("size")];
    offer(byId("format"), "mp4", !isTransparent);
    byId("format").value = format;
    offer(byId("subtitles-output"), "track", format !== "webm"); // WebM has no text tracks
    for (const { value } of size.options) if (/\d/.test(value)) offer(size, value, isSameAspect(aspect(value), crop.value));
    byId("size-entry").hidden = size.value !== OTHER;
    byId("rate-entry").hidden = byId("fps").value !== OTHER;
    byId("encoding").hidden = format === "mov"; // ProRes has one quality
    byId("crop-note").hidden = !crop.value && !size.value;
    notice(byId("format-note"), { mp4: "", webm: t(isReplaced ? "formatTransparent" : "formatWebm"), mov: t("formatMov") }[format]);
  }

  /** Size of the picture such as `1080x1920`; empty for that of the source. */
  get size() {
    const { value } = byId("size");
    return value === OTHER ? `${byId("width").value}x${byId("height").value}` : value;
  }

  /** Key of the text that says what is missing or wrong; null if nothing is. */
  get problem() {
    if (this.background.isMissing) return "needBackground";
    if (byId("size").value === OTHER) {
      const [width, height] = [byId("width"), byId("height")];
      const ratio = aspect(this.size);
      const fits = width.value * height.value <= MAX_PIXELS && Math.max(ratio, 1 / ratio) <= MAX_ASPECT;
      if (!width.validity.valid || !height.validity.valid || !fits) return "needSize";
      if (!isSameAspect(ratio, byId("crop").value)) return "sizeNotShape";
    }
    return byId("fps").value === OTHER && !byId("rate").validity.valid ? "needRate" : null;
  }

  /** Fields of an avatar that is saved with the background. It cannot be transparent: the avatar's stays as it is. */
  get saved() {
    return this.background.value === "transparent" ? {} : this.background.fields;
  }

  /** Fields of the job. */
  get fields() {
    return {
      ...this.background.fields,
      crop: byId("crop").value,
      size: this.size,
      fps: byId("fps").value === OTHER ? byId("rate").value : byId("fps").value,
      format: byId("format").value,
      quality: byId("quality").value,
    };
  }
}

function chooseOrEnter(select, value) {
  select.value = value ?? "";
  if (select.selectedIndex < 0) select.value = OTHER;
}

/** Width over height of a text such as `1080x1920` or `9:16`. */
function aspect(text) {
  const [width, height] = text.split(/[x:]/);
  return width / height;
}

/** Whether an aspect ratio is that of a shape such as `9:16`; an empty shape takes all. */
const isSameAspect = (ratio, shape) => !shape || Math.abs(ratio / aspect(shape) - 1) <= SAME_ASPECT;
