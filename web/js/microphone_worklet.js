// Runs in the audio thread: collects 20 ms of sound and hands it over.

const NUM_SAMPLES = 480; // at 24 kHz

class Microphone extends AudioWorkletProcessor {
  constructor() {
    super();
    this.samples = new Int16Array(NUM_SAMPLES);
    this.count = 0;
  }

  process([[channel]]) {
    if (!channel) return true;
    for (const value of channel) {
      this.samples[this.count] = Math.max(-1, Math.min(1, value)) * 32767;
      this.count += 1;
      if (this.count === NUM_SAMPLES) {
        this.port.postMessage(this.samples.buffer.slice(0));
        this.count = 0;
      }
    }
    return true;
  }
}

registerProcessor("microphone", Microphone);
