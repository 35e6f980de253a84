"""From the button to the first picture of the preview in a browser: `python -m benchmarks.first_picture`.

A known presenter at 512x512, speech of 20 s; the preview's first frame counts when Chromium has put it on the screen
(`requestVideoFrameCallback`).
"""

from __future__ import annotations

import statistics
import tempfile
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks.material import make_presenter, make_speech
from benchmarks.through_graph import create_avatar
from cli.client import Client
from tests.browser import Visitor, chromium

# In the page: the moments at which the form was sent and at which the preview's first frame was shown.
_WATCH = """
window.sent = window.shown = 0;
document.querySelector('#composer').addEventListener('submit', () => { sent = performance.now(); }, true);
new MutationObserver(() => {
  const video = document.querySelector('#stage video');
  if (video && video !== window.watched) {
    window.watched = video;
    video.requestVideoFrameCallback((now) => { shown = now; });
  }
}).observe(document.querySelector('#stage'), {childList: true, subtree: true});
"""


def main(runs: Annotated[int, typer.Option(min=1, help="Jobs measured, one after the other.")] = 7) -> None:
    """Measure and print."""
    from launch.service import running_service

    with tempfile.TemporaryDirectory(prefix="lipwright-bench-") as name, chromium() as browser:
        folder = Path(name)
        speech = make_speech(20.0, folder)
        with running_service(data_dir=folder / "data") as url:
            create_avatar(Client(url), make_presenter(512, 512, 10.0, folder))
            times = [_first_picture_s(browser, url, speech) for _ in range(runs + 1)][1:]  # the first warms caches
    print("first picture of the preview after", ", ".join(f"{seconds:.2f}" for seconds in times), "s")
    print(f"median {statistics.median(times):.2f} s, 512x512, known presenter")


def _first_picture_s(browser: Any, url: str, speech: Path) -> float:
    visitor = Visitor(browser, url)
    try:
        visitor.page.click("li:has(.close) button.face")
        visitor.choose(speech, None)
        visitor.page.evaluate(_WATCH)
        visitor.submit()
        milliseconds = visitor.until("window.shown && window.shown - window.sent")
        visitor.until_status("succeeded")
        return float(milliseconds) / 1000
    finally:
        visitor.page.context.close()


if __name__ == "__main__":
    typer.run(main)
