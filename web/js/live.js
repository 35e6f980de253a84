// The live card: an avatar speaks what the microphone records, in real time.

import { explain, request } from "./api.js";
import { byId, h, notice } from "./dom.js";
import { duration, onLanguage, t } from "./i18n.js";
import { canLive, LiveSession } from "./live_session.js";
import { Microphone, MICROPHONE_RATE } from "./microphone.js";
import { isVideo } from "./file_picker.js";
import { setValue, showsValue } from "./slider.js";
import { UnsavedAvatar } from "./unsaved_avatar.js";

const OWN = "own";

/** The card in `place`, a `details` element that asks for nothing until it is opened. */
export class Live {
  constructor(place) {
    this.place = place;
    this.link = null;
    this.turn = null; // the start that counts; what comes of an earlier one is dropped
    this.microphone = null;
    this.state = "off";
    this.doing = null; // a text key and its values, while the avatar's face is sent and looked at
    this.video = byId("live-video");
    this.video.addEventListener("volumechange", () => this.show());
    this.who = byId("live-who");
    this.motion = byId("live-still-motion");
    this.error = byId("live-error");
    this.status = byId("live-status");
    this.buttons = byId("live-buttons");
    this.written = byId("live-written");
    this.text = byId("live-text");
    this.hasVoice = false;
    this.actions = []; // of the avatar that is live
    this.avatars = [];
    this.source = null; // the file, or the ID and the motion of the avatar, that the slider shows
    this.hasChosenMotion = false; // whether the slider was moved since
    this.listing = "loading"; // of the avatars: also "ready" or "failed"
    this.own = new UnsavedAvatar(byId("live-face"), () => this.show());
    this.who.addEventListener("change", () => this.show());
    showsValue(byId("live-motion")).addEventListener("input", () => (this.hasChosenMotion = true));
    this.written.addEventListener("submit", (event) => {
      event.preventDefault();
      this.say();
    });
    place.hidden = !canLive();
    place.addEventListener("toggle", () => (place.open ? this.refresh() : this.stop()));
    onLanguage(() => {
      this.choices();
      this.show();
    });
    this.show();
  }

  async refresh() {
    notice(this.error, "");
    this.list("loading");
    try {
      const [{ avatars }, voice] = await Promise.all([request("GET", "/v1/avatars"), request("GET", "/v1/voices")]);
      this.hasVoice = voice.is_available;
      this.text.maxLength = voice.max_chars;
      this.avatars = avatars.filter((avatar) => avatar.status === "ready");
      this.list("ready");
    } catch (error) {
      notice(this.error, error.message);
      this.list("failed");
    }
  }

  list(state) {
    this.listing = state;
    this.choices();
    this.show();
  }

  choices() {
    const chosen = this.who.value;
    const isEmpty = this.listing !== "ready" && !this.avatars.length;
    this.who.replaceChildren(
      ...this.avatars.map((avatar) => h("option", { value: avatar.id }, avatar.label || avatar.id)),
      ...(isEmpty ? [h("option", { value: "" }, t(`live.${this.listing}`))] : []),
      h("option", { value: OWN }, t("live.own")));
    if ([...this.who.options].some(({ value }) => value === chosen)) this.who.value = chosen;
  }

  async start() {
    notice(this.error, "");
    const turn = (this.turn = {});
    const isWanted = () => this.turn === turn;
    this.enter("connecting");
    try {
      const avatarId = this.isOwn ? await this.own.avatarId((...doing) => isWanted() && this.tell(doing), isWanted) : this.who.value;
      if (isWanted()) this.connect(avatarId);
    } catch (error) {
      if (!isWanted()) return;
      notice(this.error, error.message);
      this.enter("off");
    }
  }

  connect(avatarId) {
    this.link = new LiveSession(this.video, {
      avatarId,
      sampleRate: MICROPHONE_RATE,
      motion: !this.motion.hidden && (this.isOwn || this.hasChosenMotion) ? byId("live-motion").value : undefined,
      onEvent: (event) => this.onEvent(event),
    });
    this.tell(null);
  }

  stop() {
    this.turn = null;
    this.mute();
    if (this.link) this.link.close();
    else this.enter("off");
  }

  async talk() {
    const microphone = (this.microphone = new Microphone((samples) => this.link?.speak(samples)));
    this.show();
    try {
      await microphone.opened;
    } catch (error) {
      if (microphone !== this.microphone) return;
      this.microphone = null;
      notice(this.error, t("liveNoMicrophone", { why: error.message }));
      this.show();
    }
  }

  mute() {
    this.microphone?.stop();
    this.microphone = null;
    this.link?.speakEnd();
    this.show();
  }

  say() {
    if (!this.text.value.trim()) return;
    notice(this.error, "");
    this.link?.speakText(this.text.value);
    this.text.value = "";
  }

  interrupt() {
    this.link?.interrupt();
  }

  onEvent(event) {
    if (event.type === "session.state_updated" && event.state === "connected") this.actions = event.actions ?? [];
    if (event.type === "session.fragment" && this.state === "connecting") this.enter("idle");
    if (event.type === "session.state_updated" && ["recovering", "reconnecting"].includes(event.state)) this.enter(event.state);
    if (event.type === "session.state_updated" && event.state === "connected" && ["recovering", "reconnecting"].includes(this.state)) this.enter(this.link.isSpeaking ? "speaking" : "idle");
    if (event.type === "agent.speak_started") this.enter("speaking");
    if (["agent.speak_ended", "agent.speak_interrupted"].includes(event.type)) this.enter("idle");
    if (event.type === "error") this.text.value ||= event.text ?? ""; // to be corrected
    if (event.type === "error") notice(this.error, event.code === "unsupported" ? t("liveNotHere") : refusal(event));
    if (event.type === "session.ended") notice(this.error, explain(event.code, event.message));
    if (event.type === "closed") {
      const isExplained = !this.error.hidden && this.state !== "reconnecting";
      if (!isExplained && ![1000, 1008].includes(event.code)) notice(this.error, t("offline"));
      this.microphone?.stop();
      this.microphone = this.link = null;
      this.video.muted = false;
      this.enter("off");
    }
  }

  enter(state) {
    this.state = state;
    this.tell(null);
  }

  tell(doing) {
    this.doing = doing;
    this.show();
  }

  get isOwn() {
    return this.who.value === OWN;
  }

  show() {
    const isOn = this.state !== "off";
    const button = (key, action, kind = "", text = `live.${key}`) => h("button", { type: "button", class: kind, id: `live-${key}`, onclick: action }, t(text));
    const stop = () => button("stop", () => this.stop(), "danger");
    const buttons = !isOn ? [button("start", () => this.start(), "main"), ...(this.listing === "failed" ? [button("retry", () => this.refresh(), "", "retry")] : [])]
      : !this.link ? [stop()]
      : [this.microphone ? button("mute", () => this.mute()) : button("talk", () => this.talk(), "main"),
        button("interrupt", () => this.interrupt()),
        this.video.muted && button("unmute", () => (this.video.muted = false)), stop(),
        this.actions.length && h("div", { class: "actions row", role: "group", "aria-label": t("live.actions") },
          this.actions.map((name) => h("button", { type: "button", onclick: () => this.link?.act(name) }, name)))];
    this.place.dataset.state = this.state;
    const isListening = this.state === "idle" && this.microphone;
    this.status.textContent = this.doing ? t(...this.doing) : t(`live.${isListening ? "listening" : this.state}`);
    this.who.disabled = isOn;
    this.own.place.hidden = isOn || !this.isOwn;
    if (!isOn) {
      const source = this.isOwn ? this.own.file : this.avatars.find(({ id }) => id === this.who.value);
      this.motion.hidden = !source || isVideo(source);
      const key = source?.id ? `${source.id} ${source.motion}` : source;
      if (this.source !== key) {
        setValue(byId("live-motion"), source?.motion ?? 1);
        this.hasChosenMotion = false;
      }
      this.source = key;
    }
    byId("live-motion").disabled = isOn;
    this.written.hidden = !this.link || !this.hasVoice;
    const shown = [
      isOn, Boolean(this.link), Boolean(this.microphone), this.video.muted, this.listing === "failed", this.actions,
      document.documentElement.lang,
    ].join();
    if (this.buttons.dataset.shown !== shown) {
      this.buttons.dataset.shown = shown;
      this.buttons.replaceChildren(...buttons.filter(Boolean)); // a focused button stays the same element otherwise
    }
    const start = this.buttons.querySelector("#live-start");
    if (start) start.disabled = !this.who.value || (this.isOwn && !this.own.file);
  }
}

/** Why there is no session, and when there may be one. */
function refusal({ code, message, retry_after_s: again }) {
  return [explain(code, message), again && t("liveAgain", { time: duration(again) })].filter(Boolean).join(" ");
}
