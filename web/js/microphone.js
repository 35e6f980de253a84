// The microphone as 16 bit samples, as it is spoken.

const RATE = 24000;

/**
 * Call `onSamples` with an Int16Array for every 20 ms that the microphone records.
 *
 * @returns The rate of the samples, and how to end it. Rejects when there is no microphone, or it may not be used.
 */
export async function listen(onSamples) {
  const stream = await navigator.mediaDevices.getUserMedia({
    audio: { channelCount: 1, echoCancellation: true, noiseSuppression: true, autoGainControl: true },
  });
  const context = new AudioContext({ sampleRate: RATE, latencyHint: "interactive" });
  await context.audioWorklet.addModule(new URL("./microphone_worklet.js", import.meta.url));
  const source = context.createMediaStreamSource(stream);
  const tap = new AudioWorkletNode(context, "microphone", { numberOfOutputs: 0 });
  tap.port.onmessage = ({ data }) => onSamples(new Int16Array(data));
  source.connect(tap);
  return {
    rate: RATE,
    stop() {
      for (const track of stream.getTracks()) track.stop();
      context.close();
    },
  };
}

/** The rate of the samples that `listen` gives. */
export const MICROPHONE_RATE = RATE;
