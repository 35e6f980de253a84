// The microphone as 16 bit samples, as it is spoken.

/** The rate of the samples in Hz. */
export const MICROPHONE_RATE = 24000;

/** The microphone, from `new` to `stop`, which may come before the browser has allowed it. */
export class Microphone {
  /**
   * @param onSamples Called with an Int16Array for every 20 ms that the microphone records.
   *
   * `opened` is a promise. It rejects when there is no microphone, or it may not be used.
   */
  constructor(onSamples) {
    this.isOver = false;
    this.opened = this.open(onSamples).catch((error) => {
      this.stop();
      throw error;
    });
  }

  async open(onSamples) {
    this.stream = await navigator.mediaDevices.getUserMedia({
      audio: { channelCount: 1, echoCancellation: true, noiseSuppression: true, autoGainControl: true },
    });
    if (this.isOver) return this.stop();
    this.context = new AudioContext({ sampleRate: MICROPHONE_RATE, latencyHint: "interactive" });
    await this.context.audioWorklet.addModule(new URL("./microphone_worklet.js", import.meta.url));
    if (this.isOver) return;
    const source = this.context.createMediaStreamSource(this.stream);
    const tap = new AudioWorkletNode(this.context, "microphone", { numberOfOutputs: 0 });
    tap.port.onmessage = ({ data }) => this.isOver || onSamples(new Int16Array(data));
    source.connect(tap);
  }

  stop() {
    this.isOver = true;
    for (const track of this.stream?.getTracks() ?? []) track.stop();
    this.context?.close().catch(() => {}); // it was closed before
  }
}
