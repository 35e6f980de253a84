// `<lipwright-avatar>`: an avatar on any web site, which speaks what its visitors write or say. See docs/widget.md.

import { h } from "./dom.js";
import { canLive, LiveSession } from "./live_session.js";
import { Microphone, MICROPHONE_RATE } from "./microphone.js";

const SERVER = new URL("../../..", import.meta.url).href;
const WAIT_MS = 15_000; // for a token, and for the picture
const IS_ON = ["connecting", "reconnecting", "ready", "speaking"];
const TEXTS = {
  avatar: "Avatar", start: "Start", stop: "Stop", talk: "Use microphone", mute: "Turn off microphone",
  interrupt: "Interrupt", text: "Text", send: "Say it", unmute: "Turn on sound",
  connecting: "Connecting…", reconnecting: "Reconnecting…", ready: "Ready", listening: "Listening", speaking: "Speaking",
  busy: "Busy. Try again in {seconds} s.", ended: "The session has ended.",
  lost: "The connection is lost. Try again.", unsupported: "This browser cannot show the avatar.",
  token: "The page got no access to the avatar. Try again later.", microphone: "The microphone cannot be used: {message}",
};
const STYLE = new CSSStyleSheet();
STYLE.replaceSync(`
  :host { display: inline-block; width: 22rem; max-width: 100%; font: 1rem/1.4 system-ui, sans-serif; }
  :host([hidden]), [hidden] { display: none !important; }
  .stage { position: relative; overflow: hidden; aspect-ratio: var(--lipwright-aspect-ratio, 1);
    border-radius: var(--lipwright-radius, .75rem); background: var(--lipwright-background, #23262d); }
  img, video { position: absolute; inset: 0; width: 100%; height: 100%; object-fit: var(--lipwright-fit, cover); }
  video { opacity: 0; transition: opacity .2s; }
  video.shown { opacity: 1; }
  .caption { position: absolute; inset: auto .5rem .5rem; margin: 0; padding: .35rem .6rem; border-radius: .4rem;
    max-height: 40%; overflow: auto; text-align: center; color: #fff; background: #000c; }
  .status { min-height: 1.4em; margin: .5rem 0; overflow-wrap: anywhere; }
  .controls, form { display: flex; flex-wrap: wrap; gap: .5rem; margin: 0; }
  form { flex: 1 1 100%; }
  button, input { font: inherit; min-height: 2.75rem; box-sizing: border-box; padding: .4rem .9rem;
    border-radius: calc(var(--lipwright-radius, .75rem) * .6); }
  button { cursor: pointer; border: 0; color: var(--lipwright-on-accent, #fff); background: var(--lipwright-accent, #1f5fbf); }
  input { flex: 1 1 8rem; min-width: 0; border: 1px solid #767b86; }
  :focus-visible { outline: 3px solid var(--lipwright-focus, #e0a100); outline-offset: 2px; }
  [aria-pressed="true"] { animation: pulse 1.4s infinite; }
  @keyframes pulse { 50% { opacity: .75; } }
  @media (prefers-reduced-motion: reduce) { * { animation: none !important; transition: none !important; } }
`);

const fill = (text, values) => text.replace(/\{(\w+)\}/g, (_, name) => values[name] ?? "");

/**
 * Attributes: `avatar`, its ID; `token-url`, where `POST` returns `{"token": ...}`; `server`, if the script has another
 * origin than the service; `picture`, the URL of an idle picture; `controls`, any of `start text microphone`.
 *
 * Properties: `getToken`, a function that returns (a promise of) a token, instead of `token-url`; `texts`, which
 * replaces labels and messages; `state`: `idle`, `connecting`, `ready`, `speaking`, `reconnecting`, `busy`, `ended` or `error`.
 *
 * Events: `ready`, `speaking`, `silent`, `ended` and `error`, with a reason in `detail`.
 */
export class LipwrightAvatar extends HTMLElement {
  static observedAttributes = ["avatar", "server", "picture", "controls"];

  state = "idle";
  #parts;
  #session = null;
  #microphone = null;
  #failure = null; // the last error or reason, as it is shown
  #reason = null; // why the service has ended the session
  #isBusy = false; // whether that says so

  constructor() {
    super();
    const root = this.attachShadow({ mode: "open", delegatesFocus: true });
    root.adoptedStyleSheets = [STYLE];
    const button = (name, action) => h("button", { type: "button", part: `button ${name}`, onclick: action });
    const form = h("form", { part: "form", onsubmit: (event) => this.#submit(event) });
    this.#parts = {
      picture: h("img", { part: "picture", alt: "", hidden: true }),
      video: h("video", {
        part: "video", playsInline: true, onvolumechange: () => this.#show(),
        onplaying: () => this.#parts.video.classList.add("shown"),
      }),
      caption: h("p", { part: "caption", class: "caption", tabIndex: 0, hidden: true }), // long texts are scrolled
      status: h("p", { part: "status", class: "status", role: "status" }),
      start: button("start", () => this.connect()),
      talk: button("talk", () => (this.#microphone ? this.stopListening() : this.listen())),
      interrupt: button("interrupt", () => this.interrupt()),
      unmute: button("unmute", () => (this.#parts.video.muted = false)),
      stop: button("stop", () => this.close()),
      form,
      text: h("input", { part: "input", type: "text", autocomplete: "off", maxLength: 2000, required: true }),
      send: h("button", { type: "submit", part: "button send" }),
    };
    const { picture, video, caption, status, start, talk, interrupt, unmute, stop, text, send } = this.#parts;
    form.append(text, send);
    root.append(
      h("div", { part: "stage", class: "stage" }, picture, video, caption), status,
      h("div", { part: "controls", class: "controls" }, start, talk, interrupt, unmute, stop, form));
  }

  connectedCallback() {
    this.#showPicture();
    this.#show();
  }

  disconnectedCallback() {
    this.close();
  }

  attributeChangedCallback(name, before) {
    if (!this.isConnected || !this.hasAttribute("state")) return; // before connectedCallback
    if (name !== "controls") {
      this.close();
      this.#showPicture();
    }
    this.#show();
  }

  /** Start a session, unless there is one. */
  connect() {
    if (this.#session) return;
    this.#failure = this.#reason = null;
    this.#isBusy = false;
    if (!canLive()) {
      this.#fail({ code: "unsupported", message: this.#texts.unsupported });
      this.#enter("error");
      return;
    }
    const session = (this.#session = new LiveSession(this.#parts.video, {
      avatarId: this.getAttribute("avatar"),
      sampleRate: MICROPHONE_RATE,
      server: this.#server,
      getProtocols: async () => ["lipwright.live", await this.#token()],
      onEvent: (event) => session === this.#session && this.#receive(event),
    }));
    this.#enter("connecting");
  }

  /** End the session. */
  close() {
    this.#session?.close();
  }

  /** Have a text spoken, after those that are being spoken; starts a session if there is none. */
  speak(text) {
    this.connect();
    this.#session?.speakText(text);
    if (this.state === "speaking") this.#show();
  }

  /** Have spoken what the microphone records; starts a session if there is none. */
  async listen() {
    this.connect();
    if (!this.#session || this.#microphone) return;
    const microphone = (this.#microphone = new Microphone((samples) => this.#session?.speak(samples)));
    this.#show();
    try {
      await microphone.opened;
    } catch ({ message }) {
      if (microphone !== this.#microphone) return;
      this.#microphone = null;
      this.#fail({ code: "microphone", message: fill(this.#texts.microphone, { message }) });
    }
  }

  /** Turn the microphone off. */
  stopListening() {
    this.#microphone?.stop();
    this.#microphone = null;
    this.#session?.speakEnd();
    this.#show();
  }

  /** Be silent at once. */
  interrupt() {
    this.#session?.interrupt();
  }

  get #texts() {
    return { ...TEXTS, ...this.texts }; // a page may have set them before the script was loaded
  }

  get #server() {
    return new URL(this.getAttribute("server") ?? SERVER, location.href).href.replace(/\/$/, "");
  }

  async #token() {
    if (this.getToken) return this.getToken();
    const answer = await fetch(this.getAttribute("token-url"), { method: "POST", signal: AbortSignal.timeout(WAIT_MS) });
    if (!answer.ok) throw new Error(`${this.getAttribute("token-url")}: ${answer.status}`);
    return (await answer.json()).token;
  }

  async #showPicture() {
    const { picture } = this.#parts;
    const avatar = this.getAttribute("avatar");
    let address = this.getAttribute("picture");
    try {
      if (address === null) {
        const answer = await fetch(`${this.#server}/v1/avatars/${encodeURIComponent(avatar)}/thumbnail`, {
          headers: { Authorization: `Bearer ${await this.#token()}` },
          referrerPolicy: "origin",
          signal: AbortSignal.timeout(WAIT_MS),
        });
        if (!answer.ok) return;
        address = URL.createObjectURL(await answer.blob());
      }
      if (avatar !== this.getAttribute("avatar")) return;
      picture.src = address;
      await picture.decode();
      picture.hidden = false;
    } catch {
      picture.hidden = true; // the session says what is wrong
    } finally {
      if (address?.startsWith("blob:")) URL.revokeObjectURL(address);
    }
  }

  #submit(event) {
    event.preventDefault();
    this.speak(this.#parts.text.value);
    this.#parts.text.value = "";
  }

  #receive(event) {
    const { type, state } = event;
    if (type === "session.state_updated" && state === "reconnecting") this.#enter(state);
    else if (type === "session.fragment" && ["connecting", "reconnecting"].includes(this.state)) this.#enter(event.is_speaking ? "speaking" : "ready");
    else if (type === "agent.speak_started") this.#enter("speaking");
    else if (type === "agent.speak_ended" || type === "agent.speak_interrupted") this.#enter("ready", "silent");
    else if (type === "error") this.#fail({ ...event, message: this.#explain(event) });
    else if (type === "session.ended") this.#failure = this.#reason = event.message;
    else if (type === "closed") this.#ended(event.code);
  }

  #explain({ code, message, retry_after_s: seconds }) {
    if (code === "busy") return fill(this.#texts.busy, { seconds: Math.ceil(seconds ?? 1) });
    return code === "token" ? this.#texts.token : code === "unsupported" ? this.#texts.unsupported : message;
  }

  #ended(code) {
    const { video } = this.#parts;
    this.#session = null;
    this.stopListening();
    video.muted = false;
    video.classList.remove("shown");
    video.removeAttribute("src");
    video.load();
    if (code === 1000) this.#failure = this.#reason ?? this.#texts.ended;
    else if (!this.#failure) this.#fail({ code: "connection_lost", message: this.#texts.lost });
    const reason = this.#failure;
    this.#enter(code === 1000 ? "ended" : this.#isBusy ? "busy" : "error");
    this.#tell("ended", { code, reason });
  }

  #fail({ code, message, retryable = false }) {
    this.#failure = message;
    this.#isBusy = code === "busy";
    this.#show();
    this.#tell("error", { code, message, retryable });
  }

  #enter(state, event = state) {
    const isNew = state !== this.state;
    this.state = state;
    if (["ready", "speaking"].includes(state)) this.#failure = null;
    this.#show();
    if (isNew && ["ready", "speaking", "silent"].includes(event)) this.#tell(event, {});
  }

  #tell(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }

  #show() {
    const { video, caption, status, start, talk, interrupt, unmute, stop, form, text, send } = this.#parts;
    const { state } = this;
    const texts = this.#texts;
    const isOn = IS_ON.includes(state);
    const allowed = (this.getAttribute("controls") ?? "start text microphone").split(/\s+/);
    const focused = this.shadowRoot.activeElement;
    this.setAttribute("state", state);
    for (const [element, label] of [[start, "start"], [interrupt, "interrupt"], [unmute, "unmute"], [stop, "stop"], [send, "send"]]) element.textContent = texts[label];
    talk.textContent = this.#microphone ? texts.mute : texts.talk;
    talk.setAttribute("aria-pressed", String(Boolean(this.#microphone)));
    text.setAttribute("aria-label", texts.text);
    text.placeholder = texts.text;
    video.setAttribute("aria-label", texts.avatar);
    const shown = this.#failure ?? texts[state === "ready" && this.#microphone ? "listening" : state] ?? "";
    if (status.textContent !== shown) status.textContent = shown;
    caption.textContent = state === "speaking" ? (this.#session?.texts ?? []).map((said) => said.text).join(" ") : "";
    caption.hidden = !caption.textContent;
    start.hidden = isOn || !allowed.includes("start");
    stop.hidden = !isOn || !allowed.includes("start");
    talk.hidden = !isOn || !allowed.includes("microphone");
    interrupt.hidden = state !== "speaking" || !allowed.includes("start");
    unmute.hidden = !video.muted;
    form.hidden = !isOn || !allowed.includes("text");
    if (focused?.closest("[hidden]")) [start, talk, stop].find((each) => !each.closest("[hidden]"))?.focus();
  }
}

if (!customElements.get("lipwright-avatar")) customElements.define("lipwright-avatar", LipwrightAvatar);
