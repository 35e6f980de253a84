"""Latency of a live session, measured in headless Chromium.

    python -m benchmarks.live.latency http://127.0.0.1:8000 --turns 20

Start the service first, on its own machine. Speech is sent in real time in pieces of 20 ms (microphone) and all at
once (text to speech). Measured in the browser: from the first speech sample sent to the displayed frame in which it
is spoken; from `agent.interrupt` to the displayed frame with a closed mouth, 40 ms of stream after the audio has
ended; the audio/video offset at the client; the number of stalls.
"""

from __future__ import annotations

import base64
import json
import os
import statistics
from typing import Annotated, Any

import numpy as np
import typer

from benchmarks.material import SAMPLES
from benchmarks.media_files import read_wav
from lipwright_client import Lipwright
from tests.browser import Visitor, chromium

RATE = 24000
LOUD = 800  # of 32768
SHUT_SECONDS = 0.04  # `models.speech.stream`

SCRIPT = """async ({module, avatar, pcm, turns, pace, rate, shutSeconds}) => {
  const {LiveSession} = await import(module);
  const bytes = Uint8Array.from(atob(pcm), (c) => c.charCodeAt(0));
  const speech = new Int16Array(bytes.buffer);
  const video = document.createElement("video");
  video.muted = true; video.width = 512; video.height = 512;
  document.body.prepend(video);
  const shown = [], events = [];
  let stalls = 0, closed = null;
  video.addEventListener("waiting", () => { stalls += 1; });
  const look = (now, {mediaTime, expectedDisplayTime}) => {
    shown.push([mediaTime, expectedDisplayTime]);
    if (shown.length > 400) shown.shift();
    video.requestVideoFrameCallback(look);
  };
  video.requestVideoFrameCallback(look);
  const link = new LiveSession(video, {avatarId: avatar, sampleRate: rate, onEvent: (event) => {
    events.push({...event, at: performance.now()});
    if (events.length > 400) events.shift();
    if (["closed", "error", "session.ended"].includes(event.type)) closed = JSON.stringify(event);
  }});
  const pause = (ms) => new Promise((done) => setTimeout(done, ms));
  const until = async (find) => {
    const end = performance.now() + 60000;
    for (;;) {
      const found = find();
      if (found !== undefined) return found;
      if (closed || performance.now() > end) throw new Error(closed ?? "nothing came");
      await pause(4);
    }
  };
  const shownAt = (second) => until(() => shown.find(([media]) => media >= second - 0.001)?.[1]);
  await until(() => (video.currentTime > 2 || undefined));
  const started = [], shut = [], behind = [];
  stalls = 0;
  for (let turn = 0; turn < turns; turn += 1) {
    events.length = 0;
    let isTalking = true;
    const sent = performance.now();
    if (pace === "burst") {
      link.speak(speech);
      link.speakEnd();
    } else {
      (async () => {
        for (let start = 0, number = 0; isTalking && start < speech.length; start += 480, number += 1) {
          await pause(Math.max(0, sent + 20 * number - performance.now()));
          if (isTalking) link.speak(speech.slice(start, start + 480));
        }
      })();
    }
    const begun = await until(() => {
      const at = events.findIndex(({type}) => type === "agent.speak_started");
      return at < 0 ? undefined : events.slice(at).find(({type}) => type === "session.fragment");
    });
    started.push((await shownAt(begun.start_seconds + 0.04)) - sent);
    behind.push(video.buffered.end(0) - video.currentTime);
    await pause(700 + 37 * (turn % 7));
    const stopped = performance.now();
    isTalking = false;
    link.interrupt();
    const cut = await until(() => events.find(({type}) => type === "agent.speak_interrupted"));
    shut.push((await shownAt(cut.at_seconds + shutSeconds)) - stopped);
    await pause(900 + 53 * (turn % 5));
    link.interrupt();
  }
  const quality = video.getVideoPlaybackQuality();
  link.close();
  video.remove();
  return {started, shut, behind, stalls, dropped: quality.droppedVideoFrames, total: quality.totalVideoFrames};
}"""


def speech() -> bytes:
    """Returns the sample speech at 24 kHz, from its first loud sample on."""
    samples, rate = read_wav(SAMPLES / "speech.wav")
    places = np.arange(len(samples) * RATE // rate) * rate / RATE
    resampled = np.interp(places, np.arange(len(samples)), samples).astype("<i2")
    first = int(np.flatnonzero(np.abs(resampled) > LOUD)[0])
    return bytes(resampled[first:].tobytes())


def avatar(url: str) -> str:
    """Returns a kept avatar; adds the sample avatar if there is none."""
    with Lipwright(url) as client:
        known = client.avatars.list()
        return (known[0] if known else client.avatars.create(video=SAMPLES / "presenter.mp4")).id


def spread(values: list[float]) -> dict[str, float]:
    ordered = sorted(values)
    return {
        "p50": round(statistics.median(ordered)),
        "p95": round(ordered[min(len(ordered) - 1, round(0.95 * (len(ordered) - 1)))]),
        "max": round(ordered[-1]),
    }


def measure(url: str, turns: int) -> dict[str, Any]:
    found: dict[str, Any] = {"load_average": os.getloadavg()[0]}
    chosen = avatar(url)
    with chromium() as browser:
        visitor = Visitor(browser, url)
        source = visitor.page.get_attribute("script[type=module]", "src")
        module = source.replace("app.js", "live_session.js")
        for pace in ("burst", "microphone"):
            arguments = {"module": module, "avatar": chosen, "pcm": base64.b64encode(speech()).decode()}
            arguments |= {"turns": turns, "pace": pace, "rate": RATE, "shutSeconds": SHUT_SECONDS}
            got = visitor.page.evaluate(SCRIPT, arguments)
            found[pace] = {
                "first_mouth_ms": spread(got["started"]),
                "shut_mouth_ms": spread(got["shut"]),
                "buffered_ms": spread([1000 * value for value in got["behind"]]),
                **{name: got[name] for name in ("stalls", "dropped", "total")},
            }
            visitor.page.wait_for_timeout(1500)
    return found


def main(url: str, turns: Annotated[int, typer.Option(min=1, help="Turns of each kind.")] = 20) -> None:
    """Measures and prints."""
    print(json.dumps(measure(url, turns), indent=1))


if __name__ == "__main__":
    typer.run(main)
