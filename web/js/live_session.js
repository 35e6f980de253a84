// A live session: sends speech over a WebSocket and plays the returned fragments with Media Source Extensions.

const ROOT = document.querySelector('meta[name="root"]')?.content;
const Source = window.ManagedMediaSource ?? window.MediaSource;
const FAR_SECONDS = 1.0; // farther behind than this it jumps
const SHUT_SECONDS = 0.05; // from an interruption to a frame whose mouth is shut, which is jumped to
const KEEP_SECONDS = 0.19; // buffered before it plays, and kept: with less, browsers stop to gather more
const RATES = { speaking: [0.95, 1.06], silent: [0.6, 1.25] }; // slowest and fastest to get there: neither is heard or seen
const SETTLE_SECONDS = 0.2; // it takes about this long
const LOOK_MS = 40;
const NO_RATE = 0.03; // off by less than this is not off
const KEPT_SECONDS = 10;
const REPORT_MS = 250;
const LOST_CODES = [1006, 1011, 1012, 1013, 1014]; // the connection broke, the service or a proxy failed, or it is full
const AGAIN_MS = [250, 500, 1000, 2000, 4000, 8000]; // each with up to a quarter more or less
const GIVE_UP_MS = 60_000;
const SILENT_MS = 15_000; // without a fragment, of which there are several a second: the connection is lost
const STABLE_MS = 10_000; // a session that lasted as long is reconnected for GIVE_UP_MS again

/** Whether this browser can show a live session. */
export const canLive = () => Boolean(Source && window.WebSocket);

/**
 * One session, from `new` to `close`. If the connection breaks, it is opened again: a new session begins, and the texts
 * that were not spoken are sent again. Samples sent meanwhile are lost.
 */
export class LiveSession {
  /**
   * @param video Where it is shown.
   * @param options `avatarId`, `sampleRate`, and `motion` if the avatar is a still; `isViewer` to view the session that
   *   another client has started, and is not reconnected; `onEvent` is called with every event of the service, with the
   *   state `reconnecting` of `session.state_updated`, and with `{type: "closed", code}` once at the end. A page of
   *   another site says which `server` it is, and `getProtocols` returns (a promise of) the subprotocols of each
   *   connection.
   */
  constructor(video, { avatarId, sampleRate, motion, isViewer = false, onEvent, server = ROOT, getProtocols = () => [] }) {
    this.video = video;
    this.onEvent = onEvent;
    this.isOver = false;
    this.forget();
    this.texts = []; // not spoken yet
    this.numTexts = 0;
    this.isViewer = isViewer;
    this.getProtocols = getProtocols;
    this.connectedAt = null;
    this.lost = null; // when reconnecting is given up, and how often it was tried
    const session = { sample_rate: String(sampleRate), ...(motion === undefined ? {} : { motion }) };
    const query = new URLSearchParams({ avatar_id: avatarId, ...(isViewer ? {} : session) });
    const address = new URL(`${server}/v1/live${isViewer ? "/view" : ""}?${query}`, location.href);
    address.protocol = address.protocol.replace("http", "ws");
    this.address = address;
    this.open();
    this.timers = [setInterval(() => this.report(), REPORT_MS), setInterval(() => this.steer(), LOOK_MS)];
  }

  async open() {
    let socket;
    try {
      const protocols = await this.getProtocols();
      if (this.isOver) return;
      socket = this.socket = new WebSocket(this.address, protocols);
    } catch ({ message }) {
      if (this.isOver) return;
      this.receive({ type: "error", code: "token", message, retryable: true });
      this.ended(LOST_CODES[0]);
      return;
    }
    socket.binaryType = "arraybuffer";
    const on = (type, listener) => socket.addEventListener(type, (event) => socket === this.socket && listener(event));
    on("open", () => this.texts.forEach((text) => this.tell("agent.speak_text", text)));
    on("message", ({ data }) => (typeof data === "string" ? this.receive(JSON.parse(data)) : this.take(data)));
    on("close", ({ code }) => this.ended(code));
  }

  /** Have `samples` spoken: an Int16Array at the session's rate. */
  speak(samples) {
    if (this.socket?.readyState === WebSocket.OPEN) this.socket.send(samples);
  }

  /** Have a text spoken by the service's voice. */
  speakText(text) {
    const said = { text, event_id: `text-${++this.numTexts}` };
    this.texts.push(said);
    this.tell("agent.speak_text", said);
  }

  /** Show an action of an avatar with clips. */
  act(name) {
    this.tell("agent.action", { name });
  }

  /** All that was to be said has been sent. */
  speakEnd() {
    this.tell("agent.speak_end");
  }

  /** Silence at once. */
  interrupt() {
    this.texts = [];
    this.tell("agent.interrupt");
  }

  /** End the session; `code` is that of `closed`. */
  close(code = 1000) {
    this.socket?.close(1000);
    this.closed(code);
  }

  tell(type, fields = {}) {
    if (this.socket?.readyState === WebSocket.OPEN) this.socket.send(JSON.stringify({ type, ...fields }));
  }

  receive(event) {
    if (event.type === "session.fragment") Object.assign(this, { isSpeaking: event.is_speaking, numSilent: 0 });
    if (event.type === "session.stream") this.begin(event.media_type);
    if (event.type === "agent.speak_interrupted") this.cutAt = event.at_seconds;
    if (event.type === "agent.speak_ended") this.texts = this.texts.slice(this.texts.findIndex((text) => text.event_id === event.event_id) + 1);
    if (event.type === "error") {
      event.text = this.texts.find((text) => text.event_id === event.event_id)?.text; // what was refused
      this.texts = this.texts.filter((text) => text.event_id !== event.event_id);
    }
    if (event.type === "session.state_updated" && event.state === "connected") this.connectedAt ??= performance.now();
    if (event.type === "error" && this.lost && event.retryable) return; // it is tried again
    this.onEvent(event);
  }

  begin(mediaType) {
    if (!Source.isTypeSupported(mediaType)) {
      this.onEvent({ type: "error", code: "unsupported", message: mediaType });
      this.close(1003);
      return;
    }
    const source = (this.source = new Source());
    const address = URL.createObjectURL(source);
    this.video.disableRemotePlayback = true;
    this.video.src = address;
    source.addEventListener("sourceopen", () => {
      URL.revokeObjectURL(address);
      if (this.source !== source) return;
      this.buffer = source.addSourceBuffer(mediaType);
      this.buffer.addEventListener("updateend", () => this.feed());
      this.feed();
    }, { once: true });
  }

  take(piece) {
    this.waiting.push(piece);
    this.feed();
  }

  feed() {
    const { buffer, video } = this;
    if (!buffer || buffer.updating) return;
    this.keepUp();
    const past = video.currentTime - KEPT_SECONDS;
    if (past > KEPT_SECONDS && buffer.buffered.length && buffer.buffered.start(0) < past - KEPT_SECONDS) buffer.remove(0, past);
    else if (this.waiting.length) buffer.appendBuffer(this.waiting.shift());
  }

  /** Stay close behind what has come: hurry a little, or jump where much was missed. */
  keepUp() {
    const { buffer, video } = this;
    if (!buffer.buffered.length) return;
    const end = buffer.buffered.end(buffer.buffered.length - 1);
    const ahead = end - video.currentTime;
    if (video.paused) {
      if (ahead < KEEP_SECONDS || this.isStarting) return;
      this.isStarting = true;
      video.currentTime = Math.max(0, end - KEEP_SECONDS);
      video.play().catch(({ name }) => {
        if (name === "NotAllowedError") video.muted = true; // browsers play no sound before a click
      }).finally(() => (this.isStarting = false));
      return;
    }
    if (this.cutAt !== null && end > this.cutAt + SHUT_SECONDS) {
      const shut = this.cutAt + SHUT_SECONDS;
      if (video.currentTime < shut) video.currentTime = shut; // what was still to be spoken is skipped
      this.cutAt = null;
    } else if (ahead > FAR_SECONDS) video.currentTime = end - KEEP_SECONDS;
    this.steer();
  }

  /** Play a little faster or slower, so that there is neither a long way behind nor nothing left to show. */
  steer() {
    const { buffer, video } = this;
    if (!buffer || video.paused || !buffer.buffered.length) return;
    const [slowest, fastest] = this.isSpeaking ? RATES.speaking : RATES.silent;
    const ahead = buffer.buffered.end(buffer.buffered.length - 1) - video.currentTime;
    const rate = Math.min(fastest, Math.max(slowest, 1 + (ahead - KEEP_SECONDS) / SETTLE_SECONDS));
    video.preservesPitch = this.isSpeaking; // keeping it takes sound ahead
    video.playbackRate = Math.abs(rate - 1) < NO_RATE ? 1 : rate;
  }

  report() {
    if (this.buffer) this.tell("session.playback", { position_seconds: this.video.currentTime });
    // Counted, not measured: what a suspended page has missed comes after its timers.
    if (this.numSilent === null || ++this.numSilent * REPORT_MS < SILENT_MS) return;
    this.socket.close();
    this.ended(LOST_CODES[0]);
  }

  /** The connection has ended: open another one if it broke. */
  ended(code) {
    const now = performance.now();
    if (this.connectedAt !== null && (!this.lost || now - this.connectedAt > STABLE_MS)) this.lost = { giveUpAt: now + GIVE_UP_MS, numTries: 0 };
    this.connectedAt = null;
    if (this.isViewer || !this.lost || !LOST_CODES.includes(code) || now > this.lost.giveUpAt) {
      this.closed(code);
      return;
    }
    this.forget();
    this.onEvent({ type: "session.state_updated", state: "reconnecting" });
    const delay = AGAIN_MS[Math.min(this.lost.numTries++, AGAIN_MS.length - 1)];
    this.again = setTimeout(() => this.open(), delay * (0.75 + Math.random() / 2));
  }

  /** Forget the connection and its stream: the buffer must not be read when the video shows something else. */
  forget() {
    this.socket = this.source = this.buffer = null;
    this.cutAt = null; // from here on nothing is spoken any more
    this.numSilent = null; // reports since the last fragment; null before the first one
    this.waiting = [];
    this.isSpeaking = false;
  }

  closed(code) {
    if (this.isOver) return;
    clearTimeout(this.again);
    this.timers.forEach(clearInterval);
    this.forget();
    this.isOver = true;
    this.onEvent({ type: "closed", code });
  }
}
