// The result while it is rendered: a fragmented MP4 that is fetched piece by piece into a MediaSource.

const TYPE = 'video/mp4; codecs="avc1.640028, mp4a.40.2"';
const AHEAD_SECONDS = 45; // what is buffered beyond the playing position before the rest is left in the network
const BEHIND_SECONDS = 20; // what is kept of what was played when the browser's memory is full

// Safari on phones has the managed kind only.
const Source = window.MediaSource ?? window.ManagedMediaSource;

/** Whether this browser can play a preview. */
export const canPreview = () => Boolean(Source?.isTypeSupported(TYPE));

/**
 * Play the preview at `url` in `video`, from where the video stands.
 *
 * @param onLost Called when the stream breaks before its end.
 * @returns How to end it. The stream's own end leaves what was buffered.
 */
export function playPreview(video, url, onLost) {
  const source = new Source();
  const control = new AbortController();
  const from = video.currentTime;
  const address = URL.createObjectURL(source);
  video.disableRemotePlayback = true; // what the managed kind asks for
  video.src = address;
  source.addEventListener("sourceopen", () => {
    URL.revokeObjectURL(address);
    feed(source, video, { url, from, signal: control.signal }).catch(() => {
      if (!control.signal.aborted) onLost();
    });
  }, { once: true });
  return () => control.abort();
}

async function feed(source, video, { url, from, signal }) {
  const buffer = source.addSourceBuffer(TYPE);
  const answer = await fetch(url, { signal, credentials: "same-origin" });
  if (!answer.ok) throw new Error(`preview: ${answer.status}`);
  const reader = answer.body.getReader();
  let hasStarted = false;
  for (;;) {
    const { done, value } = await reader.read();
    if (done) break;
    await append(buffer, video, value);
    if (!hasStarted && end(buffer) > from) {
      hasStarted = true;
      video.currentTime = from;
      startPlaying(video);
    }
    while (hasStarted && end(buffer) - video.currentTime > AHEAD_SECONDS && !signal.aborted) await changed(video, "timeupdate");
  }
  if (source.readyState === "open") source.endOfStream();
}

async function append(buffer, video, piece) {
  try {
    buffer.appendBuffer(piece);
  } catch (error) {
    if (error.name !== "QuotaExceededError") throw error;
    buffer.remove(0, Math.max(0.1, video.currentTime - BEHIND_SECONDS));
    await changed(buffer, "updateend");
    buffer.appendBuffer(piece);
  }
  await changed(buffer, "updateend");
}

function startPlaying(video) {
  video.play().catch(() => {
    video.muted = true; // without a click before, browsers play silent films only
    video.play().catch(() => {});
  });
}

/** The second up to which there is something to play; 0 when there is nothing. */
const end = ({ buffered }) => (buffered.length ? buffered.end(buffered.length - 1) : 0);

const changed = (target, name) => new Promise((resolve) => target.addEventListener(name, resolve, { once: true }));
