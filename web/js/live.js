// The live card: a kept presenter says what the microphone hears, as it hears it.

import { explain, request } from "./api.js";
import { byId, h, notice } from "./dom.js";
import { onLanguage, t } from "./i18n.js";
import { canLive, LiveLink } from "./live_link.js";
import { listen, MICROPHONE_RATE } from "./microphone.js";

/** The card in `place`, a `details` element that asks for nothing until it is opened. */
export class Live {
  constructor(place) {
    this.place = place;
    this.link = null;
    this.microphone = null;
    this.state = "off";
    this.video = byId("live-video");
    this.who = byId("live-who");
    this.error = byId("live-error");
    this.status = byId("live-status");
    this.buttons = byId("live-buttons");
    this.written = byId("live-written");
    this.text = byId("live-text");
    this.hasVoice = false;
    this.written.addEventListener("submit", (event) => {
      event.preventDefault();
      this.say();
    });
    place.hidden = !canLive();
    place.addEventListener("toggle", () => (place.open ? this.refresh() : this.stop()));
    onLanguage(() => this.show());
    this.show();
  }

  async refresh() {
    try {
      const [{ avatars }, voice] = await Promise.all([request("GET", "/v1/avatars"), request("GET", "/v1/voices")]);
      this.hasVoice = voice.is_available;
      this.text.maxLength = voice.max_chars;
      const ready = avatars.filter((avatar) => avatar.status === "ready");
      this.who.replaceChildren(...ready.map((avatar) => h("option", { value: avatar.id }, avatar.label || avatar.id)));
      byId("live-nobody").hidden = ready.length > 0;
      this.show();
    } catch (error) {
      notice(this.error, error.message);
    }
  }

  start() {
    notice(this.error, "");
    this.enter("connecting");
    this.link = new LiveLink(this.video, {
      avatarId: this.who.value,
      sampleRate: MICROPHONE_RATE,
      onEvent: (event) => this.hear(event),
    });
  }

  stop() {
    this.mute();
    this.link?.close();
  }

  async talk() {
    try {
      this.microphone = await listen((samples) => this.link?.speak(samples));
    } catch (error) {
      notice(this.error, t("liveNoMicrophone", { why: error.message }));
    }
    this.show();
  }

  mute() {
    this.microphone?.stop();
    this.microphone = null;
    this.link?.speakEnd();
    this.show();
  }

  say() {
    if (!this.text.value.trim()) return;
    this.link?.speakText(this.text.value);
    this.text.value = "";
  }

  interrupt() {
    this.link?.interrupt();
  }

  hear(event) {
    if (event.type === "session.fragment" && this.state === "connecting") this.enter("idle");
    if (event.type === "session.state_updated" && event.state === "recovering") this.enter("recovering");
    if (event.type === "session.state_updated" && event.state === "connected" && this.state === "recovering") this.enter(this.link.isSpeaking ? "speaking" : "idle");
    if (event.type === "agent.speak_started") this.enter("speaking");
    if (["agent.speak_ended", "agent.speak_interrupted"].includes(event.type)) this.enter("idle");
    if (event.type === "error") notice(this.error, event.code === "browser" ? t("liveNotHere") : explain(event.code, event.message));
    if (event.type === "session.ended") notice(this.error, event.message);
    if (event.type === "closed") {
      this.microphone?.stop();
      this.microphone = this.link = null;
      this.enter("off");
    }
  }

  enter(state) {
    this.state = state;
    this.show();
  }

  show() {
    const isOn = this.state !== "off";
    const button = (key, action, kind = "") => h("button", { type: "button", class: kind, id: `live-${key}`, onclick: action }, t(`live.${key}`));
    const buttons = isOn
      ? [this.microphone ? button("mute", () => this.mute()) : button("talk", () => this.talk(), "main"),
        button("interrupt", () => this.interrupt()), button("stop", () => this.stop(), "danger")]
      : [button("start", () => this.start(), "main")];
    this.place.dataset.state = this.state;
    this.status.textContent = t(`live.${this.state}`);
    this.who.disabled = isOn;
    this.written.hidden = !isOn || !this.hasVoice;
    const shown = `${isOn}${Boolean(this.microphone)}${document.documentElement.lang}`;
    if (this.buttons.dataset.shown !== shown) {
      this.buttons.dataset.shown = shown;
      this.buttons.replaceChildren(...buttons); // a focused button stays the same element otherwise
    }
    const start = this.buttons.querySelector("#live-start");
    if (start) start.disabled = !this.who.value;
  }
}
