// The page `/live.html?avatar=ID`: shows the running live session of an avatar, and nothing else. For browser sources of
// programs such as OBS: it waits for a session, and connects again when one ends or the connection breaks.

import { LiveSession } from "./live_session.js";

const AGAIN_MS = [500, 1000, 2000, 4000]; // each with up to a quarter more
const SHOWN_MS = 10_000; // a session that was shown this long starts the delays from the beginning

const options = new URLSearchParams(location.search);
const avatarId = options.get("avatar");
const video = document.getElementById("stream");
const note = document.getElementById("note");
let numFailed = 0;

function connect() {
  let shownAt = null;
  new LiveSession(video, {
    avatarId,
    isViewer: true,
    onEvent(event) {
      if (event.type === "session.fragment") {
        shownAt ??= performance.now();
        document.documentElement.dataset.state = "live";
      }
      if (event.type !== "closed") return;
      clear();
      numFailed = shownAt !== null && performance.now() - shownAt > SHOWN_MS ? 0 : numFailed + 1;
      const delay = AGAIN_MS[Math.min(numFailed, AGAIN_MS.length - 1)];
      setTimeout(connect, delay * (1 + Math.random() / 4));
    },
  });
}

/** Take the last picture away. */
function clear() {
  document.documentElement.dataset.state = "waiting";
  video.removeAttribute("src");
  video.load();
}

const background = options.get("background") ?? "";
document.documentElement.style.background = CSS.supports("color", background) ? background : "transparent";
addEventListener("click", () => (video.muted = false)); // only browser sources play sound before
if (avatarId) {
  clear();
  connect();
} else {
  note.hidden = false;
  note.textContent = "Add ?avatar=ID to the address: the ID of the avatar whose live session is shown.";
}
