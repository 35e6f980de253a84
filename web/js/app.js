// Wires the parts of the page together and retries while the service is unreachable.

import { request } from "./api.js";
import { Composer } from "./composer.js";
import { byId, notice } from "./dom.js";
import { History } from "./history.js";
import { onLanguage, switchLanguage, t, translate } from "./i18n.js";
import { Live } from "./live.js";
import { askForKey, signedIn, signOut } from "./sign_in.js";
import { JobView } from "./job_view.js";
import { themeSwitch } from "./theme.js";
import { showUsage } from "./usage.js";

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

/** Show a job that was submitted a moment ago. */
const showNew = (job) => {
  history.put(job);
  jobView.open(job);
  jobView.title.focus({ preventScroll: true });
  byId("stage").scrollIntoView({ block: "nearest" });
};
const jobView = new JobView(byId("stage"), {
  changed: (job) => history.put(job),
  removed: (id) => history.drop(id),
  refused: (error) => (error.status === 401 ? askForKey() : showError(error)),
  again: (job) => composer.useSource(job),
  edit: (job) => composer.useJob(job),
  retry: (job) => composer.retry(job),
  accepted: showNew,
  shown: (id) => window.history.replaceState(null, "", id ? `#job=${id}` : location.pathname + location.search),
});
const history = new History(byId("jobs"), async (id) => {
  if (!(await open(id).catch(showError))) return;
  jobView.title.focus({ preventScroll: true });
  byId("stage").scrollIntoView({ block: "start", behavior: matchMedia("(prefers-reduced-motion: reduce)").matches ? "auto" : "smooth" });
});
const composer = new Composer(byId("composer"), showNew, () => askForKey());

new Live(byId("live"));
showUsage(byId("usage"));

// A file dropped outside the drop zone would replace the page.
for (const name of ["dragover", "drop"]) window.addEventListener(name, (event) => event.preventDefault());

let again = null; // the timer of the next `start`
let wanted = null; // ID of the job that was asked for last

/** Read a job and show it; whether it is shown. */
async function open(id) {
  wanted = id;
  try {
    const job = await request("GET", `/v1/jobs/${id}`);
    if (wanted !== id) return false;
    notice(byId("banner"), "");
    jobView.open(job);
    return true;
  } catch (error) {
    if (error.status !== 404) throw error;
    notice(byId("banner"), t("jobGone"));
    history.drop(id);
    return false;
  }
}

/** Open the job that the URL names, so that a reload or a second tab shows it again. */
async function openFromUrl() {
  const [, id] = location.hash.match(/^#job=(\w+)$/) ?? [];
  if (!id || jobView.job?.id === id) return;
  if (!(await open(id))) window.history.replaceState(null, "", location.pathname + location.search);
}

window.addEventListener("hashchange", () => openFromUrl().catch(showError));

function showError(error) {
  notice(byId("banner"), error.message);
  if (error.status === 0 || error.status >= 500) again ??= setTimeout(start, RETRY_MS);
}

async function start() {
  again = null;
  try {
    await signedIn();
    notice(byId("banner"), "");
    await Promise.all([composer.refresh(), history.refresh(), openFromUrl()]);
  } catch (error) {
    showError(error);
  }
}

start();
