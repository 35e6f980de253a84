// How long a file plays, as far as this browser can tell.

import { h } from "./dom.js";

const WAIT_MS = 10000;

/** Length in seconds of the audio or video at `url`; null if this browser cannot read it. */
export async function secondsAt(url) {
  const media = h("video", { preload: "metadata", muted: true, src: url });
  try {
    return await new Promise((resolve, reject) => {
      media.addEventListener("error", reject);
      setTimeout(reject, WAIT_MS);
      media.addEventListener("durationchange", () => {
        if (Number.isFinite(media.duration)) resolve(media.duration);
        else if (media.duration === Infinity) media.currentTime = Number.MAX_SAFE_INTEGER; // a recording tells it at its end
      });
    });
  } catch {
    return null;
  } finally {
    media.removeAttribute("src");
    media.load(); // gives the connection back
  }
}

/** The same for a file. */
export async function secondsOf(file) {
  const url = URL.createObjectURL(file);
  try {
    return await secondsAt(url);
  } finally {
    URL.revokeObjectURL(url);
  }
}
