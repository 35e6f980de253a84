// The result while it is rendered: a fragmented MP4 that is fetched piece by piece into a MediaSource.

const TYPE = 'video/mp4; codecs="avc1.640028, mp4a.40.2"';
const AHEAD_SECONDS = 45; // what is buffered beyond the playing position before the rest is left in the network
const BEHIND_SECONDS = 20; // what is kept of what was played when the browser's memory is full

/** Whether this browser can play a preview. */
export const canPreview = () => Boolean(window.MediaSource?.isTypeSupported(TYPE));

/**
 * Play the preview at `url` in `video`.
 *
 * @returns A function that ends it. The stream's own end leaves what was buffered.
 */
export function playPreview(video, url) {
  const source = new MediaSource();
  const control = new AbortController();
  const address = URL.createObjectURL(source);
  video.src = address;
  source.addEventListener("sourceopen", () => {
    URL.revokeObjectURL(address);
    feed(source, video, url, control.signal).catch(() => {
      if (!control.signal.aborted && source.readyState === "open") source.endOfStream("network");
    });
  }, { once: true });
  return () => control.abort();
}

async function feed(source, video, url, signal) {
  const buffer = source.addSourceBuffer(TYPE);
  const answer = await fetch(url, { signal, credentials: "same-origin" });
  if (!answer.ok) throw new Error(`preview: ${answer.status}`);
  const reader = answer.body.getReader();
  let hasStarted = false;
  for (;;) {
    const { done, value } = await reader.read();
    if (done) break;
    await append(buffer, video, value);
    if (!hasStarted && buffer.buffered.length) {
      hasStarted = true;
      startPlaying(video);
    }
    while (ahead(buffer, video) > AHEAD_SECONDS && !signal.aborted) await changed(video, "timeupdate");
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

function ahead(buffer, video) {
  const { buffered } = buffer;
  return buffered.length ? buffered.end(buffered.length - 1) - video.currentTime : 0;
}

const changed = (target, name) => new Promise((resolve) => target.addEventListener(name, resolve, { once: true }));
