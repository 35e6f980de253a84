// What the API key of this page has used this month, read whenever the table is unfolded.

import { request } from "./api.js";
import { h } from "./dom.js";
import { locale, onLanguage, t } from "./i18n.js";

const COLUMNS = ["jobs_succeeded", "jobs_failed", "jobs_cancelled", "video_seconds", "live_seconds", "stored_bytes"];
const BYTES_PER_MB = 1e6;

/** Fill the table in `details` once it is open. */
export function showUsage(details) {
  const table = details.querySelector("table");
  const show = async () => {
    if (!details.open) return;
    try {
      const { usage } = await request("GET", "/v1/usage");
      table.replaceChildren(...(usage.length ? rows(usage) : [h("caption", {}, t("usage.none"))]));
    } catch (error) {
      table.replaceChildren(h("caption", {}, error.message));
    }
  };
  details.addEventListener("toggle", show);
  onLanguage(show);
}

function rows(usage) {
  const number = new Intl.NumberFormat(locale(), { maximumFractionDigits: 1 });
  const cell = (row, name) => (row[name] === null ? "" : number.format(row[name] / (name === "stored_bytes" ? BYTES_PER_MB : 1)));
  return [
    h("tr", {}, ["day", ...COLUMNS].map((name) => h("th", { scope: "col" }, t(`usage.${name}`)))),
    ...usage.map((row) => h("tr", {}, h("th", { scope: "row" }, row.day), COLUMNS.map((name) => h("td", {}, cell(row, name))))),
  ];
}
