// The settings of a saved avatar: its background and movement, which later videos and live sessions begin with.

import { send } from "./api.js";
import { BackgroundChoice } from "./background_choice.js";
import { h, notice } from "./dom.js";
import { isVideo } from "./file_picker.js";
import { t } from "./i18n.js";
import { setValue, showsValue } from "./slider.js";
import { addStillChoices } from "./still_choices.js";

const SLIDERS = { expressiveness: 2, motion: 1 }; // name and largest value

/** The settings of the avatar that is chosen. */
export class AvatarSettings {
  /** @param place The element to fill. @param onSaved Called after a change, with the avatar as it is then. */
  constructor(place, onSaved) {
    Object.assign(this, { place, onSaved, avatar: null });
    const fields = h("div", { class: "fields" });
    this.background = new BackgroundChoice(fields, { prefix: "avatar-", onChange: () => this.changed() });
    this.sliders = {};
    for (const [name, max] of Object.entries(SLIDERS)) {
      const slider = h("input", { type: "range", id: `avatar-${name}`, min: 0, max, step: 0.1, oninput: () => this.changed() });
      fields.append(h("label", {}, h("span", { "data-text": name }, t(name)), slider));
      this.sliders[name] = showsValue(slider);
    }
    this.acting = addStillChoices(fields, "avatar-", () => this.changed());
    this.button = h("button", { type: "button", id: "avatar-save", "data-text": "saveSettings", onclick: () => this.save() }, t("saveSettings"));
    this.note = h("p", { class: "hint", role: "status", hidden: true });
    this.error = h("p", { class: "notice bad", role: "alert", hidden: true });
    this.details = h("details", { class: "avatar-settings" },
      h("summary", { "data-text": "avatarSettings" }, t("avatarSettings")),
      h("p", { class: "hint", "data-text": "avatarSettingsHint" }, t("avatarSettingsHint")),
      fields, this.error, this.button, this.note);
    place.append(this.details);
    place.hidden = true;
  }

  /** Show the settings of an avatar; null for none. */
  use(avatar) {
    this.avatar = avatar;
    this.place.hidden = !avatar;
    if (!avatar) return;
    this.background.begin(avatar);
    for (const [name, input] of Object.entries({ ...this.sliders, ...this.acting })) setValue(input, avatar[name]);
    for (const input of [this.sliders.motion, ...Object.values(this.acting)]) input.parentElement.hidden = isVideo(avatar);
    this.changed();
  }

  changed() {
    notice(this.note, "");
    notice(this.error, "");
  }

  async save() {
    if (this.background.isMissing) {
      notice(this.error, t("needAvatarBackground"));
      return;
    }
    const { id } = this.avatar;
    const tell = (place, text) => this.avatar?.id === id && notice(place, text); // another one may have been chosen
    const inputs = isVideo(this.avatar) ? this.sliders : { ...this.sliders, ...this.acting };
    const movement = Object.fromEntries(Object.entries(inputs).map(([name, input]) => [name, input.value]));
    this.button.disabled = true;
    try {
      const avatar = await send(`/v1/avatars/${id}`, { ...movement, ...this.background.fields }, () => {}, "PATCH");
      await this.onSaved(avatar);
      tell(this.note, t("settingsSaved"));
    } catch (refused) {
      tell(this.error, refused.message);
    } finally {
      this.button.disabled = false;
      if (document.activeElement === document.body) this.button.focus({ preventScroll: true }); // disabling took it
    }
  }
}
