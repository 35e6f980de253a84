"""Time from submitting a job to the first preview frame in a browser: `python -m benchmarks.first_picture`.

A stored avatar at 512x512, speech of 20 s; the first frame counts when Chromium has displayed it
(`requestVideoFrameCallback`).
"""

from __future__ import annotations

import statistics
import tempfile
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks.material import make_avatar, make_speech
from benchmarks.through_graph import create_avatar
from lipwright_client import Lipwright
from tests.browser import Visitor, chromium

# In the page: the times at which the form was sent, the first segment was announced, and the first frame was shown.
_WATCH = """
window.sent = window.heard = window.shown = 0;
document.querySelector('#composer').addEventListener('submit', () => { sent = performance.now(); }, true);
new MutationObserver(() => {
  if (!heard && /frame [1-9]/.test(document.querySelector('#stage .status')?.textContent)) heard = performance.now();
  const video = document.querySelector('#stage video');
  if (video && video !== window.watched) {
    window.watched = video;
    video.requestVideoFrameCallback((now) => { shown = now; });
  }
}).observe(document.querySelector('#stage'), {childList: true, subtree: true, characterData: true});
"""


def main(runs: Annotated[int, typer.Option(min=1, help="Jobs measured, one after the other.")] = 7) -> None:
    """Measures and prints."""
    from lipwright.launch.service import private_config, running_service

    with tempfile.TemporaryDirectory(prefix="lipwright-bench-") as name, chromium() as browser:
        folder = Path(name)
        speech = make_speech(20.0, folder)
        with running_service(private_config(folder / "data")) as url:
            create_avatar(Lipwright(url), make_avatar(512, 512, 10.0, folder))
            times = [_first_picture_s(browser, url, speech) for _ in range(runs + 1)][1:]  # the first run warms caches
    for what, column in zip(("first segment announced", "first frame shown"), zip(*times, strict=True), strict=True):
        values = ", ".join(f"{seconds:.2f}" for seconds in column)
        print(f"{what}: {values} s; median {statistics.median(column):.2f}, minimum {min(column):.2f}")


def _first_picture_s(browser: Any, url: str, speech: Path) -> tuple[float, float]:
    """Returns the seconds from the click to the announcement of the first segment, and to the first frame."""
    visitor = Visitor(browser, url)
    try:
        visitor.page.click("li:has(.close) button.face")
        visitor.choose(speech, None)
        visitor.page.evaluate(_WATCH)
        visitor.submit()
        heard, shown = visitor.until("shown && heard && [heard - sent, shown - sent]")
        visitor.until_status("succeeded")
        return heard / 1000, shown / 1000
    finally:
        visitor.page.context.close()


if __name__ == "__main__":
    typer.run(main)
