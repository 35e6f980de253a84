"""`<lipwright-avatar>` on a web site of another origin, in a real browser."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from config import TtsConfig
from storage.file_keys import avatar_folder, avatar_picture_key
from tests.browser import Visitor
from tests.unit.api.test_browser_token import Site, site_with_avatar
from tests.unit.api_server import running
from tests.unit.lipwright_client.breaking_proxy import breaking_proxy
from tests.unit.speech.speech_server import speaking

AVATAR = "document.querySelector('lipwright-avatar')"
ROOT = f"{AVATAR}.shadowRoot"
EVENTS = ("ready", "speaking", "silent", "ended", "error")
PAGE = """<!doctype html><html lang="en"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>A shop</title><script type="module" src="{service}/widget/lipwright-avatar.js"></script>
<main><h1>A shop</h1><lipwright-avatar avatar="{avatar}" token-url="/token"></lipwright-avatar></main></html>"""

# Chromium's policy without a click; for it, every `evaluate` is a click.
NO_AUTOPLAY = """() => {
  const { play } = HTMLMediaElement.prototype;
  let wasClicked = false;
  addEventListener("click", () => (wasClicked = true), true);
  HTMLMediaElement.prototype.play = function () {
    return this.muted || wasClicked ? play.call(this) : Promise.reject(new DOMException("", "NotAllowedError"));
  };
}"""


@dataclass
class Shop:
    """A web site with the element.

    Attributes:
        site: Its side of the service.
        service_url: Where its pages load the script.
        limits: Of the tokens that its backend gets.
        tokens: The tokens that it gave to its pages.
    """

    site: Site
    service_url: str
    limits: dict[str, Any] = field(default_factory=dict)
    tokens: list[str] = field(default_factory=list)
    url: str = ""

    def page(self, request: Request) -> Response:
        service, socket = self.service_url, self.service_url.replace("http", "ws", 1)
        policy = f"default-src 'none'; script-src {service}; connect-src 'self' {service} {socket}; "
        headers = {"content-security-policy": policy + "img-src blob:; media-src blob:"}
        return HTMLResponse(PAGE.format(service=service, avatar=self.site.avatar_id), headers=headers)

    def token(self, request: Request) -> Response:
        self.tokens.append(self.site.token(**{"origin": self.url, **self.limits}))
        return JSONResponse({"token": self.tokens[-1]})


@contextmanager
def open_shop(site: Site, service_url: str | None = None, **limits: Any) -> Iterator[Shop]:
    shop = Shop(site, service_url or str(site.http.base_url).rstrip("/"), limits)
    app = Starlette(
        routes=[
            Route("/", shop.page),
            Route("/token", shop.token, methods=["POST"]),
            Route("/favicon.ico", lambda request: Response(status_code=204)),
        ]
    )
    with running(app) as shop.url:
        yield shop


def visit(browser: Any, shop: Shop, **context: Any) -> Visitor:
    visitor = Visitor(browser, shop.url, **context)
    visitor.until(f"Boolean({ROOT})")
    visitor.page.evaluate(
        f"""() => {{ window.told = []; for (const type of {list(EVENTS)!r})
        {AVATAR}.addEventListener(type, (event) => told.push([type, event.detail])); }}"""
    )
    return visitor


def told(visitor: Visitor) -> list[str]:
    return [kind for kind, _ in visitor.page.evaluate("told")]


def give_picture(site: Site, picture: bytes) -> None:
    avatar = site.service.table.get_avatar(site.avatar_id)
    site.service.files.stored.make_folder(avatar_folder(avatar.key))
    site.service.files.stored.put(avatar_picture_key(avatar.key), picture)


def test_element_on_other_origin_shows_picture_and_speaks(browser: Any, tmp_path: Path, sample_portrait: Path) -> None:
    with (
        speaking() as voice,
        site_with_avatar(tmp_path, tts=TtsConfig(url=voice.url, voice="kim")) as site,
        open_shop(site) as shop,
    ):
        give_picture(site, sample_portrait.read_bytes())
        visitor = visit(browser, shop)
        visitor.until(f"!{ROOT}.querySelector('img').hidden && {ROOT}.querySelector('img').naturalWidth > 0")
        assert (visitor.page.evaluate(f"{AVATAR}.state"), len(shop.tokens)) == ("idle", 1)
        visitor.picture("widget-idle")
        visitor.page.keyboard.press("Tab")
        visitor.page.keyboard.press("Enter")
        visitor.until(f"{AVATAR}.state === 'ready' && {ROOT}.querySelector('video').currentTime > .5")
        visitor.page.keyboard.press("Tab")  # from the first button: the one that was pressed is gone
        visitor.page.keyboard.press("Tab")
        visitor.page.keyboard.type("Good day, dear visitor.")
        visitor.page.keyboard.press("Enter")
        visitor.until(f"{AVATAR}.state === 'speaking'")
        visitor.picture("widget-speaking")
        assert visitor.page.evaluate(f"{ROOT}.querySelector('.caption').textContent") == "Good day, dear visitor."
        visitor.until("told.at(-1)[0] === 'silent'")
        visitor.page.evaluate(f"{AVATAR}.speak('One. '.repeat(200))")
        visitor.until(f"{AVATAR}.state === 'speaking'")
        assert visitor.serious_violations() == []
        visitor.page.evaluate(f"{AVATAR}.interrupt()")
        visitor.until("told.at(-1)[0] === 'silent'")
        visitor.page.evaluate(f"{AVATAR}.close()")
        visitor.until(f"{AVATAR}.state === 'ended'")
        assert told(visitor) == ["ready", "speaking", "silent", "speaking", "silent", "ended"]
        assert visitor.errors == []


def test_element_speaks_what_the_microphone_records(browser: Any, tmp_path: Path) -> None:
    with site_with_avatar(tmp_path) as site, open_shop(site, actions=["audio"]) as shop:
        visitor = visit(browser, shop, viewport={"width": 390, "height": 844}, reduced_motion="reduce")
        visitor.page.get_by_role("button", name="Start").click()
        visitor.page.get_by_role("button", name="Use microphone").click()
        visitor.until(f"{AVATAR}.state === 'speaking'")
        visitor.picture("widget-microphone-phone")
        visitor.page.get_by_role("button", name="Turn off microphone").click()
        visitor.until(f"{AVATAR}.state === 'ready'")
        visitor.page.evaluate(f"{AVATAR}.speak('Hello.')")
        visitor.until("told.at(-1)[0] === 'error'")
        assert visitor.page.get_by_role("status").inner_text() == "The token does not allow text."


def test_element_reconnects_with_a_fresh_token(browser: Any, tmp_path: Path) -> None:
    with (
        site_with_avatar(tmp_path) as site,
        breaking_proxy(str(site.http.base_url).rstrip("/")) as proxy,
        open_shop(site, proxy.url) as shop,
    ):
        visitor = visit(browser, shop)
        visitor.page.evaluate(NO_AUTOPLAY)
        visitor.page.evaluate(f"{AVATAR}.connect()")
        visitor.until(f"{AVATAR}.state === 'ready'")
        visitor.page.get_by_role("button", name="Turn on sound").click()
        assert not visitor.page.evaluate(f"{ROOT}.querySelector('video').muted")
        used = len(shop.tokens)
        proxy.refuses = True
        proxy.cut()
        visitor.until(f"{AVATAR}.state === 'reconnecting'")
        assert visitor.page.get_by_role("status").inner_text() == "Reconnecting…"
        proxy.refuses = False
        visitor.until(f"{AVATAR}.state === 'ready'")
        assert len(set(shop.tokens)) > used
        assert told(visitor) == ["ready", "ready"]


def test_element_with_token_of_other_origin_shows_error(browser: Any, tmp_path: Path) -> None:
    with site_with_avatar(tmp_path) as site, open_shop(site, origin="https://other.example") as shop:
        visitor = visit(browser, shop)
        visitor.page.get_by_role("button", name="Start").click()
        visitor.until(f"{AVATAR}.state === 'error'")
        shown = visitor.page.get_by_role("status").inner_text()
        assert shown == f"The token is not for pages of '{shop.url}'."
        assert visitor.page.get_by_role("button", name="Start").is_visible()
        visitor.picture("widget-error")


def test_element_at_capacity_shows_busy(browser: Any, tmp_path: Path) -> None:
    with site_with_avatar(tmp_path) as site, open_shop(site) as shop, ExitStack() as sessions:
        visitor = visit(browser, shop)
        token = site.token(max_sessions=4)
        for _ in range(4):
            sessions.enter_context(site.socket(token)).recv(timeout=30)
        visitor.page.get_by_role("button", name="Start").click()
        visitor.until(f"{AVATAR}.state === 'busy'")
        assert visitor.page.get_by_role("status").inner_text().startswith("Busy. Try again in ")
        assert visitor.page.get_by_role("button", name="Start").is_visible()
