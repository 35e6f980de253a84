// What is behind the person: the choice of a background, with the fields that belong to it.

import { h } from "./dom.js";
import { FilePicker } from "./file_picker.js";
import { t } from "./i18n.js";

const CHOICES = { source: "asSource", blur: "backgroundBlur", colour: "backgroundColour", file: "backgroundFile" };
const AFTER_END = { loop: "loopLoop", pingpong: "loopPingpong", hold: "loopHold" };
const MATTES = { auto: "matteAuto", person: "mattePerson", chroma: "matteChroma" };
const GREEN = "#00b140";

/** The fields of a background. */
export class BackgroundChoice {
  /**
   * @param place The element to fill, among other fields.
   * @param options `prefix` of the IDs of the fields; whether the background `mayBeTransparent`; `onChange`, called after
   *   each change.
   */
  constructor(place, { prefix = "", mayBeTransparent = false, onChange = () => {} } = {}) {
    this.onChange = onChange;
    const choices = { "": "asSaved", ...CHOICES, ...(mayBeTransparent && { transparent: "backgroundTransparent" }) };
    this.select = choice(`${prefix}background`, choices);
    this.colour = h("input", { type: "color", id: `${prefix}colour`, value: GREEN });
    this.afterEnd = choice(`${prefix}after-end`, AFTER_END);
    this.matte = choice(`${prefix}matte`, MATTES);
    const filePlace = h("div", { id: `${prefix}background-file` });
    this.parts = {
      colour: field("backgroundColourLabel", this.colour),
      file: filePlace,
      loop: field("backgroundLoop", this.afterEnd),
      cutout: field("matte", this.matte),
    };
    place.append(field("background", this.select), ...Object.values(this.parts));
    this.file = new FilePicker(filePlace, "background", () => this.changed());
    this.select.addEventListener("change", () => this.changed());
    offer(this.select, "", false);
    this.show();
  }

  get value() {
    return this.select.value;
  }

  /** Whether the person is cut out, by another matte than the one that the avatar is saved with. */
  get isCutOut() {
    return !["", "source"].includes(this.value);
  }

  /** Whether the background is a video; a file of unknown type may be one. */
  get hasVideo() {
    return this.value === "file" && Boolean(this.file.file) && !this.file.file.type.startsWith("image/");
  }

  /** Whether a file is still to be chosen. */
  get isMissing() {
    return this.value === "file" && !this.file.file;
  }

  /** Choose the saved background of `avatar` and offer it, if it has one; null without an avatar. */
  useAvatar(avatar) {
    const hasOwn = Boolean(avatar?.background ?? avatar?.background_id);
    offer(this.select, "", hasOwn);
    if (hasOwn) this.select.value = "";
    this.changed();
  }

  /** Begin with the background of an avatar or a job. A stored file is offered as what is saved. */
  begin({ background, background_id: stored, matte }) {
    this.file.take(null);
    offer(this.select, "", Boolean(stored));
    const named = ["source", "blur", "transparent"].includes(background) ? background : "colour";
    this.select.value = stored ? "" : background ? named : "source";
    if (this.value === "colour") this.colour.value = background;
    this.matte.value = matte;
    this.changed();
  }

  changed() {
    this.show();
    this.onChange();
  }

  show() {
    this.parts.colour.hidden = this.value !== "colour";
    this.parts.file.hidden = this.value !== "file";
    this.parts.loop.hidden = !this.hasVideo;
    this.parts.cutout.hidden = !this.isCutOut;
  }

  /** Fields of a job or an avatar. */
  get fields() {
    const background = { colour: { background: this.colour.value }, file: { background_file: this.file.file } };
    return {
      ...(background[this.value] ?? { background: this.value }),
      background_loop: this.hasVideo && this.afterEnd.value,
      matte: this.isCutOut && this.matte.value,
    };
  }
}

/** A labelled field whose text has this key. */
const field = (key, control) => h("label", {}, h("span", { "data-text": key }, t(key)), control);

/** A choice among values, with the keys of their texts. */
const choice = (id, choices) =>
  h("select", { id }, Object.entries(choices).map(([value, key]) => h("option", { value, "data-text": key }, t(key))));

/** Offer a choice, or hide it; another one is then chosen. */
export function offer(select, value, isOffered) {
  const option = select.querySelector(`[value="${value}"]`);
  option.hidden = option.disabled = !isOffered;
  if (!isOffered && select.value === value) select.value = select.querySelector("option:enabled").value;
}
