// The page: puts its parts together and keeps them when the service is away for a moment.

import { Composer } from "./composer.js";
import { byId, notice } from "./dom.js";
import { History } from "./history.js";
import { onLanguage, switchLanguage, t, translate } from "./i18n.js";
import { Live } from "./live.js";
import { askForKey, signedIn, signOut } from "./session.js";
import { Stage } from "./stage.js";
import { themeSwitch } from "./theme.js";

const RETRY_MS = 3000;

translate();
themeSwitch(byId("theme"));
byId("language").addEventListener("click", switchLanguage);
byId("sign-out").addEventListener("click", () => signOut());
const showLanguage = () => {
  byId("language").textContent = t("otherLanguage");
  byId("language").lang = document.documentElement.lang === "en" ? "zh" : "en";
};
onLanguage(showLanguage);
showLanguage();

const stage = new Stage(byId("stage"), {
  changed: (job) => history.put(job),
  removed: (id) => history.drop(id),
  refused: (error) => (error.status === 401 ? askForKey() : showError(error)),
  again: (job) => composer.useSource(job),
});
const history = new History(byId("jobs"), (job) => {
  stage.open(job);
  stage.title.focus({ preventScroll: true });
  byId("stage").scrollIntoView({ block: "start", behavior: matchMedia("(prefers-reduced-motion: reduce)").matches ? "auto" : "smooth" });
});
const composer = new Composer(byId("composer"), (job) => {
  history.put(job);
  stage.open(job);
  byId("stage").scrollIntoView({ block: "nearest" });
}, () => askForKey());

new Live(byId("live"));

// A file that misses the drop zone would replace the page.
for (const name of ["dragover", "drop"]) window.addEventListener(name, (event) => event.preventDefault());

function showError(error) {
  notice(byId("banner"), error.message);
  if (error.status === 0 || error.status >= 500) setTimeout(start, RETRY_MS);
}

async function start() {
  try {
    await signedIn();
    await Promise.all([composer.refresh(), history.refresh()]);
    notice(byId("banner"), "");
  } catch (error) {
    showError(error);
  }
}

start();
