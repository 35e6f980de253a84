"""A headless Chromium, and what a visitor of the page does in it."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

BOUND_S = 120.0
_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
# Without these it looks for updates and for its maker's hosts; a container's root needs --no-sandbox.
_FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--use-fake-device-for-media-stream",  # a test picture and a beep in place of camera and microphone
    "--use-fake-ui-for-media-stream",
)

# `tracks` has those of the microphones and cameras that the page has opened, each after `allow()`.
HELD_MEDIA = """() => {
  const { mediaDevices } = navigator;
  const open = mediaDevices.getUserMedia.bind(mediaDevices);
  window.tracks = [];
  mediaDevices.getUserMedia = async (wanted) => {
    await new Promise((resolve) => (window.allow = resolve));
    const stream = await open(wanted);
    tracks.push(...stream.getTracks());
    return stream;
  };
}"""
# Chromium's policy without a click; for it, every `evaluate` is a click.
NO_AUTOPLAY = """() => {
  const { play } = HTMLMediaElement.prototype;
  let wasClicked = false;
  addEventListener("click", ({ isTrusted }) => (wasClicked ||= isTrusted), true);
  HTMLMediaElement.prototype.play = function () {
    return this.muted || wasClicked ? play.call(this) : Promise.reject(new DOMException("", "NotAllowedError"));
  };
}"""
ARE_ENDED = "tracks.length && tracks.every(({ readyState }) => readyState === 'ended')"

SPEECH: Any = {"name": "speech.wav", "mimeType": "audio/wav", "buffer": b"RIFF" + bytes(2000)}
PICTURE: Any = {"name": "face.png", "mimeType": "image/png", "buffer": b"\x89PNG\r\n\x1a\n" + bytes(64)}


@contextmanager
def chromium() -> Iterator[Any]:
    """A Playwright browser; the test is skipped where there is none (LIPWRIGHT_CHROMIUM names one)."""
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright (pip install -e .[dev])")
    found = os.environ.get("LIPWRIGHT_CHROMIUM") or next(filter(None, map(shutil.which, _NAMES)), None)
    if found is None:
        pytest.skip("needs Chromium (Debian: apt install chromium), or its path in LIPWRIGHT_CHROMIUM")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=found, args=list(_FLAGS))
        try:
            yield browser
        finally:
            browser.close()


class Visitor:
    """One page of the service in a browser of its own; errors of its scripts are kept."""

    def __init__(self, browser: Any, url: str, **context: Any) -> None:
        self.page = browser.new_context(
            **{"viewport": {"width": 1280, "height": 900}, "locale": "en-US", **context}
        ).new_page()
        self.errors: list[str] = []
        self.page.set_default_timeout(BOUND_S * 1000)
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("console", self._hear)
        self.page.goto(url)

    def _hear(self, message: Any) -> None:
        if message.type == "error":
            self.errors.append(message.text)

    def choose(self, speech: Path, face: Path | None) -> None:
        self.page.set_input_files("#speech input[type=file]", speech)
        if face is not None:
            self.page.set_input_files("#face input[type=file]", face)

    def submit(self) -> None:
        self.page.click("#submit")

    def until(self, expression: str, bound_s: float = BOUND_S) -> Any:
        """Wait until an expression is true and return it; the page's policy forbids Playwright's own way."""
        deadline = time.monotonic() + bound_s
        while not (value := self.page.evaluate(expression)):
            seen = f"{self.errors} {self.text('body')[:2000]}" if time.monotonic() >= deadline else ""
            assert not seen, f"{expression} did not come true: {seen}"
            self.page.wait_for_timeout(20)
        return value

    def text(self, selector: str) -> str:
        return str(self.page.inner_text(selector))

    def until_status(self, status: str) -> None:
        self.until(f"document.querySelector('#stage .status')?.dataset.status === '{status}'")

    def picture(self, name: str) -> None:
        """Keep a screenshot in the folder that LIPWRIGHT_SCREENSHOTS names, if it names one."""
        if folder := os.environ.get("LIPWRIGHT_SCREENSHOTS"):
            self.page.screenshot(path=Path(folder) / f"{name}.png", full_page=True)

    def serious_violations(self) -> list[str]:
        """What axe-core finds that keeps people out."""
        axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs axe-playwright-python")
        found = axe.Axe().run(self.page).response["violations"]
        return [f"{v['id']}: {v['nodes'][0]['html'][:200]}" for v in found if v["impact"] in ("serious", "critical")]
