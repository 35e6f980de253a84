// Sliders show their value and their ends, in per cent of the usual amount.

import { h } from "./dom.js";
import { locale, onLanguage } from "./i18n.js";

const percent = (value) => new Intl.NumberFormat(locale(), { style: "percent" }).format(value);

/** Show the value and the ends of `input`, an input of type range in a label. Returns `input`. */
export function showsValue(input) {
  const [value, least, most] = [h("output"), h("span"), h("span")];
  const parts = [value, h("span", { class: "ends" }, least, most)];
  for (const part of parts) part.setAttribute("aria-hidden", "true"); // it is no part of the slider's name
  input.before(parts[0]);
  input.after(parts[1]);
  input.parentElement.classList.add("slider");
  const show = () => {
    [value.textContent, least.textContent, most.textContent] = [input.value, input.min, input.max].map(percent);
    input.setAttribute("aria-valuetext", value.textContent);
  };
  input.addEventListener("input", show);
  onLanguage(show);
  show();
  return input;
}

/** Set the value of such an input. */
export function setValue(input, value) {
  input.value = value;
  input.dispatchEvent(new Event("input"));
}
