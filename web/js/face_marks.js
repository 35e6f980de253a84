// Marking a face: five handles on a picture, moved with the pointer or the arrow keys, become places in its own pixels.

import { h } from "./dom.js";
import { t } from "./i18n.js";

const START = { left_eye: [0.4, 0.42], right_eye: [0.6, 0.42], mouth_left: [0.43, 0.62], mouth_right: [0.57, 0.62], chin: [0.5, 0.75] }; // shares
/** The names of the places, in the order of the numbers of a stored choice. */
export const MARKS = Object.keys(START);

const KEYS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

/**
 * Put handles on `view` (an <img>, drawn whole in its box).
 *
 * @param marks Places to begin with, in pixels of the picture, by the names of `face_points` of the API; null: usual ones.
 * @param onMarks Gets the places at each change, and once the picture is loaded.
 * @returns The element to show in place of `view`.
 */
export function markable(view, marks, onMarks) {
  const places = { ...marks };
  let held; // the place of the handle that is dragged, relative to the pointer
  const handles = MARKS.map((name) => h("button", {
    type: "button", class: `handle ${name}`, "aria-label": t(`marks.${name}`), "aria-describedby": "marks-hint",
    onkeydown: (event) => {
      const [right, down] = KEYS[event.key] ?? [];
      if (right === undefined) return;
      event.preventDefault();
      const step = (event.shiftKey ? 10 : 1) / box().scale;
      move(name, places[name][0] + step * right, places[name][1] + step * down);
    },
    onpointerdown: (event) => {
      event.currentTarget.setPointerCapture(event.pointerId);
      held = { x: places[name][0] - event.clientX / box().scale, y: places[name][1] - event.clientY / box().scale };
    },
    onpointermove: (event) => {
      if (!event.currentTarget.hasPointerCapture(event.pointerId)) return;
      move(name, held.x + event.clientX / box().scale, held.y + event.clientY / box().scale);
    },
  }, h("span", { "aria-hidden": "true" }, t(`marks.${name}`))));

  /** Where the picture is in its box, and how large. */
  function box() {
    const scale = Math.min(view.clientWidth / view.naturalWidth, view.clientHeight / view.naturalHeight);
    return { left: (view.clientWidth - view.naturalWidth * scale) / 2, top: (view.clientHeight - view.naturalHeight * scale) / 2, scale };
  }

  function move(name, x, y) {
    const inside = (value, size) => Math.round(10 * Math.min(Math.max(value, 0), size - 1)) / 10;
    places[name] = [inside(x, view.naturalWidth), inside(y, view.naturalHeight)];
    place();
    onMarks({ ...places });
  }

  function place() {
    if (!view.naturalWidth) return;
    const { left, top, scale } = box();
    MARKS.forEach((name, number) => {
      const [x, y] = (places[name] ??= [START[name][0] * view.naturalWidth, START[name][1] * view.naturalHeight].map(Math.round));
      handles[number].style.left = `${view.offsetLeft + left + x * scale}px`;
      handles[number].style.top = `${view.offsetTop + top + y * scale}px`;
    });
  }

  new ResizeObserver(place).observe(view);
  view.decode().then(() => {
    place();
    onMarks({ ...places });
  }, () => {}); // no picture: the service says so
  return h("div", { class: "marks" }, view, handles, h("p", { class: "hint", id: "marks-hint" }, t("marksHint")));
}
