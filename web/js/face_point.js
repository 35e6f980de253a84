// Pointing at a face: a click on a picture or film becomes a place in its own pixels.

import { h } from "./dom.js";

/**
 * Let clicks on `view` (an <img> or <video>, drawn whole in its box) choose a place.
 *
 * @param onPlace Gets the place as {x, y} in pixels of the picture.
 * @returns The element to show in place of `view`.
 */
export function pointable(view, onPlace) {
  const mark = h("span", { class: "mark", hidden: true, "aria-hidden": "true" });
  if (view instanceof HTMLVideoElement) {
    view.controls = false;
    view.pause();
    view.currentTime = 0; // the place is one of the first frame
  }
  view.addEventListener("click", (event) => {
    const place = placeOf(view, event.offsetX, event.offsetY);
    if (!place) return;
    mark.hidden = false;
    mark.style.left = `${event.offsetX}px`;
    mark.style.top = `${event.offsetY}px`;
    onPlace(place);
  });
  return h("div", { class: "aim" }, view, mark);
}

function placeOf(view, left, top) {
  const [width, height] = [view.videoWidth ?? view.naturalWidth, view.videoHeight ?? view.naturalHeight];
  const scale = Math.min(view.clientWidth / width, view.clientHeight / height);
  const x = (left - (view.clientWidth - width * scale) / 2) / scale;
  const y = (top - (view.clientHeight - height * scale) / 2) / scale;
  const isInside = x >= 0 && y >= 0 && x < width && y < height;
  return isInside ? { x: Math.round(x), y: Math.round(y) } : null;
}
