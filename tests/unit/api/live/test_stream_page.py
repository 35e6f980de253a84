"""The page that shows only a live session, in a real browser: it waits, shows, and comes back by itself."""

from __future__ import annotations

import io
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from config import LiveConfig
from lipwright_client import Lipwright
from storage.local.api_keys import FileKeyRing
from tests.browser import Visitor, chromium
from tests.unit.api.live.live_parts import AVATAR, GreyService
from tests.unit.api_server import MemoryService, serving

STATE = "document.documentElement.dataset.state"
LIVE = LiveConfig(max_sessions=4)


@contextmanager
def on_air(url: str) -> Iterator[None]:
    """A session whose client shows nothing."""
    with Lipwright(url) as client, client.live(AVATAR, receives_video=False) as session:
        is_over = threading.Event()

        def read() -> None:
            for _ in session:
                if is_over.is_set():
                    return

        reading = threading.Thread(target=read)
        reading.start()
        try:
            yield
        finally:
            is_over.set()
            reading.join(20)


def pixels(visitor: Visitor) -> NDArray[np.uint8]:
    """Return the page as (H, W, 4) RGBA, transparent where it has no background."""
    shown = visitor.page.screenshot(omit_background=True)
    return np.asarray(Image.open(io.BytesIO(shown)).convert("RGBA"))


def until_painted(visitor: Visitor, is_opaque: bool) -> NDArray[np.uint8]:
    """Wait until the middle of the page is painted, or transparent, and return the page."""
    for _ in range(100):
        if (shown := pixels(visitor))[90, 160, 3] == 255 * is_opaque:
            return shown
    raise AssertionError(f"the middle of the page did not become {'opaque' if is_opaque else 'transparent'}")


def test_the_page_shows_one_session_after_the_other(tmp_path: Path) -> None:
    with (
        serving(MemoryService(tmp_path), live=GreyService(), live_config=LIVE) as url,
        chromium() as browser,
    ):
        visitor = Visitor(browser, f"{url}/live.html?avatar={AVATAR}", viewport={"width": 320, "height": 180})
        visitor.until(f"{STATE} === 'waiting'")
        assert not pixels(visitor)[..., 3].any(), "nothing covers what is behind the page"
        for _ in range(2):
            with on_air(url):
                visitor.until(f"{STATE} === 'live' && document.querySelector('video').currentTime > 0.5")
                shown = until_painted(visitor, is_opaque=True)
                assert shown[90, 160, :3].max() < 80, "the dark grey avatar"
                assert shown[90, 5, 3] == 0, "beside the picture"
            visitor.until(f"{STATE} === 'waiting'")
            assert not until_painted(visitor, is_opaque=False)[..., 3].any(), "no picture is left standing"
        assert visitor.errors == []
        green = Visitor(browser, f"{url}/live.html?avatar={AVATAR}&background=%2300b140")
        assert (pixels(green)[50, 50] == (0, 0xB1, 0x40, 255)).all()
        assert green.errors == []
        without = Visitor(browser, f"{url}/live.html")
        assert "avatar=ID" in without.text("#note")


def test_the_page_itself_needs_no_key(tmp_path: Path) -> None:
    import httpx

    FileKeyRing(tmp_path).add("a studio")
    with serving(MemoryService(tmp_path), live=GreyService(), live_config=LIVE) as url:
        answer = httpx.get(f"{url}/live.html", trust_env=False)
    assert answer.status_code == 200
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert "style=" not in answer.text
