// How a still picture acts: its expression, and how much it turns its head.

import { h } from "./dom.js";
import { t } from "./i18n.js";

const CHOICES = { expression: ["neutral", "happy", "sad", "angry", "surprised", "serious"], head: ["lively", "calm", "still"] };

/** Append a labelled select for each of the choices, with IDs that start with `prefix`. Returns them by name. */
export function addStillChoices(fields, prefix = "", onInput = () => {}) {
  return Object.fromEntries(Object.entries(CHOICES).map(([name, values]) => {
    const select = h("select", { id: prefix + name, oninput: onInput }, ...values.map((value) => h("option", { value, "data-text": value }, t(value))));
    fields.append(h("label", {}, h("span", { "data-text": name }, t(name)), select));
    return [name, select];
  }));
}
