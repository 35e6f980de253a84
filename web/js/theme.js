// Light, dark, or what the system says.

import { h } from "./dom.js";
import { onLanguage, t } from "./i18n.js";

const STORED = "lipwright.theme";
const NAMES = { auto: "themeAuto", light: "themeLight", dark: "themeDark" };

/** Make `button` go through the themes. */
export function themeSwitch(button) {
  let theme = localStorage.getItem(STORED) ?? "auto";
  const show = () => {
    document.documentElement.dataset.theme = theme;
    const name = t(NAMES[theme]);
    button.replaceChildren(h("span", { "aria-hidden": "true" }, "◐"), name);
    button.setAttribute("aria-label", t("theme", { name }));
  };
  button.addEventListener("click", () => {
    const names = Object.keys(NAMES);
    theme = names[(names.indexOf(theme) + 1) % names.length];
    localStorage.setItem(STORED, theme);
    show();
  });
  onLanguage(show);
  show();
}
