"""The page of one live session, and `<lipwright-avatar>` on another site, in a real browser."""

from __future__ import annotations

import io
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from lipwright.config import LiveConfig, TtsConfig
from lipwright.storage.file_keys import avatar_picture_key
from lipwright_client import Lipwright
from tests.browser import NO_AUTOPLAY, Visitor
from tests.unit.api.live.live_parts import AVATAR, GreyService
from tests.unit.api.test_browser_token import Site, site_with_avatar
from tests.unit.api_server import MemoryService, running, serving
from tests.unit.lipwright_client.breaking_proxy import breaking_proxy
from tests.unit.on_disk import on_disk
from tests.unit.speech.speech_server import speaking

STREAM_STATE = "document.documentElement.dataset.state"
ELEMENT = "document.querySelector('lipwright-avatar')"
ROOT = f"{ELEMENT}.shadowRoot"
EVENTS = ("ready", "speaking", "silent", "ended", "error")
PAGE = """<!doctype html><html lang="en"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>A shop</title><script type="module" src="{service}/widget/lipwright-avatar.js"></script>
<main><h1>A shop</h1><lipwright-avatar avatar="{avatar}" token-url="/token"></lipwright-avatar></main></html>"""


@contextmanager
def on_air(url: str) -> Iterator[None]:
    """A session whose client shows nothing."""
    is_over = threading.Event()
    with Lipwright(url) as client, client.live(AVATAR, receives_video=False) as session:
        reading = threading.Thread(target=lambda: next((event for event in session if is_over.is_set()), None))
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


def test_stream_page_shows_one_session_after_the_other(browser: Any, tmp_path: Path) -> None:
    with serving(MemoryService(tmp_path), live=GreyService(), live_config=LiveConfig(max_sessions=4)) as url:
        visitor = Visitor(browser, f"{url}/live.html?avatar={AVATAR}", viewport={"width": 320, "height": 180})
        visitor.until(f"{STREAM_STATE} === 'waiting'")
        assert not pixels(visitor)[..., 3].any(), "nothing covers what is behind the page"
        for _ in range(2):
            with on_air(url):
                visitor.until(f"{STREAM_STATE} === 'live' && document.querySelector('video').currentTime > 0.5")
                shown = until_painted(visitor, is_opaque=True)
                assert shown[90, 160, :3].max() < 80, "the dark grey avatar"
                assert shown[90, 5, 3] == 0, "beside the picture"
            visitor.until(f"{STREAM_STATE} === 'waiting'")
            assert not until_painted(visitor, is_opaque=False)[..., 3].any(), "no picture is left standing"
        assert visitor.errors == []
        green = Visitor(browser, f"{url}/live.html?avatar={AVATAR}&background=%2300b140")
        assert (pixels(green)[50, 50] == (0, 0xB1, 0x40, 255)).all()
        assert green.errors == []
        without = Visitor(browser, f"{url}/live.html")
        assert "avatar=ID" in without.text("#note")


@dataclass
class Shop:
    """A web site with the element."""

    site: Site
    service_url: str  # where its pages load the script
    limits: dict[str, Any] = field(default_factory=dict)  # of its tokens
    tokens: list[str] = field(default_factory=list)  # that it gave to its pages
    url: str = ""

    def page(self, request: Request) -> Response:
        service, socket = self.service_url, self.service_url.replace("http", "ws", 1)
        policy = f"default-src 'none'; script-src {service}; connect-src 'self' {service} {socket}; "
        headers = {"content-security-policy": policy + "img-src blob:; media-src blob:"}
        return HTMLResponse(PAGE.format(service=service, avatar=self.site.avatar_id), headers=headers)

    def token(self, request: Request) -> Response:
        self.tokens.append(self.site.token(**{"origin": self.url, **self.limits}))
        return JSONResponse({"token": self.tokens[-1]})


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with speaking() as voice, site_with_avatar(tmp_path, tts=TtsConfig(url=voice.url, voice="kim")) as site:
        yield site


@pytest.fixture
def shop(site: Site) -> Iterator[Shop]:
    shop = Shop(site, str(site.http.base_url).rstrip("/"))
    icon = Route("/favicon.ico", lambda request: Response(status_code=204))
    app = Starlette(routes=[Route("/", shop.page), Route("/token", shop.token, methods=["POST"]), icon])
    with running(app) as shop.url:
        yield shop


def visit(browser: Any, shop: Shop, **context: Any) -> Visitor:
    visitor = Visitor(browser, shop.url, **context)
    visitor.until(f"Boolean({ROOT})")
    visitor.page.evaluate(
        f"""() => {{ window.told = []; for (const type of {list(EVENTS)!r})
        {ELEMENT}.addEventListener(type, (event) => told.push([type, event.detail])); }}"""
    )
    return visitor


def told(visitor: Visitor) -> list[str]:
    return [kind for kind, _ in visitor.page.evaluate("told")]


def test_element_on_other_origin_shows_picture_and_speaks(
    browser: Any, site: Site, shop: Shop, sample_portrait: Path
) -> None:
    picture = avatar_picture_key(site.service.table.get_avatar(site.avatar_id).key)
    on_disk(site.service.files, picture).write_bytes(sample_portrait.read_bytes())
    visitor = visit(browser, shop)
    visitor.until(f"!{ROOT}.querySelector('img').hidden && {ROOT}.querySelector('img').naturalWidth > 0")
    assert (visitor.page.evaluate(f"{ELEMENT}.state"), len(shop.tokens)) == ("idle", 1)
    visitor.picture("widget-idle")
    visitor.page.keyboard.press("Tab")
    visitor.page.keyboard.press("Enter")
    visitor.until(f"{ELEMENT}.state === 'ready' && {ROOT}.querySelector('video').currentTime > .5")
    visitor.page.keyboard.press("Tab")  # from the first button: the one that was pressed is gone
    visitor.page.keyboard.press("Tab")
    visitor.page.keyboard.type("Good day, dear visitor.")
    visitor.page.keyboard.press("Enter")
    visitor.until(f"{ELEMENT}.state === 'speaking'")
    visitor.picture("widget-speaking")
    assert visitor.page.evaluate(f"{ROOT}.querySelector('.caption').textContent") == "Good day, dear visitor."
    visitor.until("told.at(-1)[0] === 'silent'")
    visitor.page.evaluate(f"{ELEMENT}.speak('One. '.repeat(200))")
    visitor.until(f"{ELEMENT}.state === 'speaking'")
    assert visitor.serious_violations() == []
    visitor.page.evaluate(f"{ELEMENT}.interrupt()")
    visitor.until("told.at(-1)[0] === 'silent'")
    visitor.page.evaluate(f"{ELEMENT}.close()")
    visitor.until(f"{ELEMENT}.state === 'ended'")
    assert told(visitor) == ["ready", "speaking", "silent", "speaking", "silent", "ended"]
    assert visitor.errors == []


def test_element_speaks_what_the_microphone_records(browser: Any, shop: Shop) -> None:
    shop.limits = {"actions": ["audio"]}
    visitor = visit(browser, shop, viewport={"width": 390, "height": 844}, reduced_motion="reduce")
    visitor.page.get_by_role("button", name="Start").click()
    visitor.page.get_by_role("button", name="Use microphone").click()
    visitor.until(f"{ELEMENT}.state === 'speaking'")
    visitor.picture("widget-microphone-phone")
    visitor.page.get_by_role("button", name="Turn off microphone").click()
    visitor.until(f"{ELEMENT}.state === 'ready'")
    visitor.page.evaluate(f"{ELEMENT}.speak('Hello.')")
    visitor.until("told.at(-1)[0] === 'error'")
    assert visitor.page.get_by_role("status").inner_text() == "The token does not allow text."


def test_element_reconnects_with_a_fresh_token(browser: Any, shop: Shop) -> None:
    with breaking_proxy(shop.service_url) as proxy:
        shop.service_url = proxy.url
        visitor = visit(browser, shop)
        visitor.page.evaluate(NO_AUTOPLAY)
        visitor.page.evaluate(f"{ELEMENT}.connect()")
        visitor.until(f"{ELEMENT}.state === 'ready'")
        visitor.page.get_by_role("button", name="Turn on sound").click()
        assert not visitor.page.evaluate(f"{ROOT}.querySelector('video').muted")
        used = len(shop.tokens)
        proxy.refuses = True
        proxy.cut()
        visitor.until(f"{ELEMENT}.state === 'reconnecting'")
        assert visitor.page.get_by_role("status").inner_text() == "Reconnecting…"
        proxy.refuses = False
        visitor.until(f"{ELEMENT}.state === 'ready'")
        assert len(set(shop.tokens)) > used
        assert told(visitor) == ["ready", "ready"]


def test_element_that_cannot_start_says_why(browser: Any, site: Site, shop: Shop) -> None:
    shop.limits = {"origin": "https://other.example"}
    visitor = visit(browser, shop)
    start, shown = visitor.page.get_by_role("button", name="Start"), visitor.page.get_by_role("status")
    start.click()
    visitor.until(f"{ELEMENT}.state === 'error'")
    assert shown.inner_text() == f"The token is not for pages of '{shop.url}'."
    assert start.is_visible()
    visitor.picture("widget-error")
    shop.limits = {}
    token = site.token(max_sessions=4)
    with ExitStack() as sessions:
        for _ in range(4):
            sessions.enter_context(site.socket(token)).recv(timeout=30)
        start.click()
        visitor.until(f"{ELEMENT}.state === 'busy'")
        assert shown.inner_text().startswith("Busy. Try again in ")
        assert start.is_visible()
