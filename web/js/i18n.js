// The page's language: the visitor's choice, else the browser's.

import { TEXTS } from "./strings.js";

const LANGUAGES = ["en", "zh"]; // in the order of the texts
const STORED = "lipwright.language";
let language = localStorage.getItem(STORED) ?? (navigator.language.startsWith("zh") ? "zh" : "en");
const listeners = [];

const find = (key) => key.split(".").reduce((part, name) => part?.[name], TEXTS)?.[LANGUAGES.indexOf(language)];

/** The text of this key in the page's language, with `{names}` replaced. */
export const t = (key, values = {}) => (find(key) ?? key).replace(/\{(\w+)\}/g, (_, name) => values[name] ?? "");

/** Whether the page has a text of this key. */
export const knows = (key) => find(key) !== undefined;

/** BCP 47 tag of the page's language. */
export const locale = () => (language === "zh" ? "zh-CN" : "en");

/** Put words into every element that names one by `data-text` (its content) or `data-label` (its name). */
export function translate(root = document) {
  for (const element of root.querySelectorAll("[data-text]")) element.textContent = t(element.dataset.text);
  for (const element of root.querySelectorAll("[data-label]")) element.setAttribute("aria-label", t(element.dataset.label));
  document.documentElement.lang = locale();
}

/** Call `listener` after each change of the language. */
export const onLanguage = (listener) => listeners.push(listener);

/** Change to the other language. */
export function switchLanguage() {
  language = language === "zh" ? "en" : "zh";
  localStorage.setItem(STORED, language);
  translate();
  for (const listener of listeners) listener();
}

/** A duration in seconds for people: `1:05`. */
export function clock(seconds) {
  const whole = Math.max(0, Math.round(seconds));
  return `${Math.floor(whole / 60)}:${String(whole % 60).padStart(2, "0")}`;
}

/** A duration in words: `8 s`, `2 min`. */
export function duration(seconds) {
  return seconds < 90 ? t("seconds", { value: Math.max(1, Math.round(seconds)) })
    : t("minutes", { value: Math.round(seconds / 60) });
}

/** A date and time for people; today only the time. */
export function timestamp(text) {
  const then = new Date(text);
  const isToday = then.toDateString() === new Date().toDateString();
  return new Intl.DateTimeFormat(locale(), isToday ? { timeStyle: "short" } : { dateStyle: "medium", timeStyle: "short" }).format(then);
}
