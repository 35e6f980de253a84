// The first picture of a film, without the film: a <video> would keep one of the few connections that a browser
// opens to a service, and the events and the preview need theirs.

import { mediaType } from "./api.js";
import { h } from "./dom.js";

const SIDE = 184; // twice the size of a tile, for fine screens
const WAIT_MS = 10000;
let last = Promise.resolve();

/** Put the picture at `url`, or the first one of the film there, into `place` unless that is hidden; one after the other. */
export function showThumbnail(url, place) {
  last = last.then(async () => {
    if (place.hidden) return;
    const type = await mediaType(url);
    if (type?.startsWith("image/")) place.append(h("img", { src: url, alt: "" }));
    else if (type) place.append(await firstFrame(url));
  }).catch(() => {}); // a film that this browser cannot show has no picture here
}

async function firstFrame(url) {
  const video = h("video", { muted: true, playsInline: true, preload: "auto", src: url });
  try {
    await new Promise((resolve, reject) => {
      video.addEventListener("loadeddata", resolve);
      video.addEventListener("error", reject);
      setTimeout(reject, WAIT_MS);
    });
    const scale = SIDE / Math.min(video.videoWidth, video.videoHeight);
    const canvas = h("canvas", { width: SIDE, height: SIDE, "aria-hidden": "true" });
    const [width, height] = [video.videoWidth * scale, video.videoHeight * scale];
    canvas.getContext("2d").drawImage(video, (SIDE - width) / 2, (SIDE - height) / 2, width, height);
    return canvas;
  } finally {
    video.removeAttribute("src");
    video.load(); // gives the connection back
  }
}
