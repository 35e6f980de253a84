"""The live card of the page, the page of one session, and `<lipwright-avatar>` on another site, in a real browser."""

from __future__ import annotations

import io
import json
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route
from websockets.sync.client import connect

from config import LiveConfig, TtsConfig
from errors import FaceNotFoundError
from lipwright_client import Lipwright
from storage.file_keys import avatar_picture_key
from storage.local.api_keys import FileKeyRing
from tests.browser import ARE_ENDED, HELD_MEDIA, Visitor
from tests.unit.api.edge_client import wait_until_held
from tests.unit.api.live.live_parts import AVATAR, GreyAvatars, GreyService
from tests.unit.api.test_browser_token import Site, site_with_avatar
from tests.unit.api_server import MemoryService, running, serving
from tests.unit.clip_graphs import acting_graph
from tests.unit.lipwright_client.breaking_proxy import breaking_proxy
from tests.unit.on_disk import on_disk
from tests.unit.speech.speech_server import speaking

STATE = "document.querySelector('#live').dataset.state"


@contextmanager
def live_socket(url: str, avatar_id: str) -> Iterator[None]:
    """A session that somebody else holds."""
    address = f"{url.replace('http', 'ws', 1)}/v1/live?avatar_id={avatar_id}"
    for _ in range(600):  # a slot is free once the service notices that its client left
        with connect(address, proxy=None, max_size=2**24) as socket:
            if "busy" not in str(socket.recv(timeout=30)):
                yield
                return
        time.sleep(0.1)
    raise AssertionError("no place was freed")


def _begin_live(visitor: Visitor) -> None:
    for _ in range(100):
        visitor.page.click("#live-start")
        visitor.until(f"!['connecting', ''].includes({STATE})")
        if visitor.page.evaluate(STATE) == "idle":
            return
        visitor.page.wait_for_timeout(100)
    raise AssertionError(visitor.text("#live"))


def test_live_with_uploaded_face_creates_an_unkept_avatar(browser: Any, tmp_path: Path, sample_portrait: Path) -> None:
    service = MemoryService(tmp_path)
    service.looked_at = "face"
    live = GreyAvatars(service.table)
    with serving(service, live=live) as url:
        visitor = Visitor(browser, url)
        visitor.page.click("#live summary")
        visitor.until("document.querySelector('#live-who').value === 'own'")
        assert visitor.page.is_disabled("#live-start") and not visitor.page.is_visible("#live-motion")
        visitor.page.set_input_files("#live-face input[type=file]", sample_portrait)
        visitor.page.fill("#live-motion", "0.3")
        visitor.picture("live-own-face")
        assert visitor.serious_violations() == []
        border = "getComputedStyle(document.querySelector('#live-written button')).borderTopColor"
        assert visitor.page.evaluate(border) != "rgba(0, 0, 0, 0)"
        for _ in range(2):
            _begin_live(visitor)
            assert visitor.text("#live-status") == "Connected", "the microphone is off"
            visitor.page.click("#live-talk")
            visitor.until("document.querySelector('#live-mute')")
            assert visitor.text("#live-status") in ("Listening", "Speaking")
            visitor.page.click("#live-stop")
            visitor.until(f"{STATE} === 'off'")
        visitor.page.evaluate(HELD_MEDIA)
        _begin_live(visitor)
        visitor.page.click("#live-talk")
        visitor.page.click("#live-stop")
        visitor.page.evaluate("allow()")
        visitor.until(ARE_ENDED)
        assert {request.behaviours[-1].behaviour.motion for request in live.requests} == {0.3}
        assert len(service.asked) == 1, "it is sent once"
        (avatar,) = service.table.list_avatars(pinned_only=False)
        assert not avatar.pinned
        with live_socket(url, avatar.id):
            visitor.page.click("#live-start")
            assert "may be free in" in visitor.until("document.querySelector('#live-error').textContent")
        assert visitor.errors == []


def test_live_card_shows_loading_avatars_and_retries(browser: Any, tmp_path: Path) -> None:
    service = MemoryService(tmp_path)
    with serving(service, live=GreyAvatars(service.table)) as url:
        visitor = Visitor(browser, url)
        visitor.until("document.querySelector('#engine').value")
        held: list[Any] = []
        visitor.page.route("**/v1/avatars", lambda route: held.append(route))
        visitor.page.click("#live summary")
        assert visitor.until("document.querySelector('#live-who').selectedOptions[0]?.text") == "Loading…"
        assert visitor.page.is_disabled("#live-start")
        wait_until_held(visitor, held)
        held[0].abort()
        visitor.until("document.querySelector('#live-error').textContent")
        assert "could not be loaded" in visitor.text("#live-who option:checked")
        visitor.picture("live-no-avatars")
        visitor.page.unroute("**/v1/avatars")
        visitor.page.click("#live-retry")
        visitor.until("document.querySelector('#live-who').value === 'own'")
        assert visitor.page.query_selector("#live-retry") is None
        assert not visitor.page.is_visible("#live-error")


def test_live_card_shows_the_error_of_a_faceless_upload(browser: Any, tmp_path: Path, sample_portrait: Path) -> None:
    service = MemoryService(tmp_path)
    service.looked_at = FaceNotFoundError("portrait.jpg: expected a face, found none.")
    with serving(service, live=GreyAvatars(service.table)) as url:
        visitor = Visitor(browser, url)
        visitor.page.click("#live summary")
        visitor.page.set_input_files("#live-face input[type=file]", sample_portrait)
        visitor.page.click("#live-start")
        assert visitor.until("document.querySelector('#live-error').textContent").startswith(
            "portrait.jpg: No face was found"
        )
        visitor.until(f"{STATE} === 'off'")
        service.looked_at = None  # and now it is never done with it
        visitor.page.click("#live-face button.quiet")
        visitor.page.set_input_files("#live-face input[type=file]", sample_portrait)
        visitor.page.click("#live-start")
        visitor.until("document.querySelector('#live-status').textContent === 'Analysing the face'")
        visitor.page.click("#live-stop")
        visitor.until(f"{STATE} === 'off'")
        assert visitor.errors == []


_INTERRUPTED = """async ([playing, reached]) => {
    const { LiveSession } = await import(new URL("live_session.js", document.querySelector("script[type=module]").src));
    let end = 1.2;
    const video = { paused: false, currentTime: playing };
    const buffered = { length: 1, start: () => 0, end: () => end };
    const link = Object.assign(Object.create(LiveSession.prototype), {
        video, buffer: { buffered }, onEvent: () => {}, isSpeaking: true, cutAt: null,
    });
    link.receive({ type: "agent.speak_interrupted", at_seconds: 1.2 });
    link.keepUp();
    const before = video.currentTime;
    end = reached;
    link.keepUp();
    return [before, video.currentTime];
}"""


@pytest.mark.parametrize(
    ("playing", "reached", "jumps_to"),
    [(1.0, 1.4, 1.25), (1.0, 1.24, 1.0), (1.3, 1.4, 1.3)],
    ids=["the mouth is shut there", "no shut mouth has come yet", "it is shut already"],
)
def test_interrupt_seeks_to_shut_mouth(browser: Any, url: str, playing: float, reached: float, jumps_to: float) -> None:
    """`playing` is shown when the speech is cut at 1.2 s, where the video ends until it has come to `reached`."""
    visitor = Visitor(browser, url)
    before, after = visitor.page.evaluate(_INTERRUPTED, [playing, reached])
    assert before == playing, "there is nothing to jump to"
    assert after == pytest.approx(jumps_to)


_FAKE_SOCKETS = """() => {
  window.sockets = [];
  window.WebSocket = class extends EventTarget {
    static OPEN = 1;
    readyState = 1;
    sent = [];
    constructor() {
      super();
      sockets.push(this);
      setTimeout(() => this.dispatchEvent(new Event("open")));
    }
    send(message) { this.sent.push(message); }
    close() { this.readyState = 3; }
    receive(...events) {
      for (const event of events) this.dispatchEvent(new MessageEvent("message", { data: JSON.stringify(event) }));
    }
  };
  window.load = (name) => import(new URL(name, document.querySelector("script[type=module]").src));
  window.live = [{ type: "session.state_updated", state: "connected" }, { type: "session.fragment" }];
}"""


def test_silent_connection_is_closed_and_replaced(browser: Any, url: str) -> None:
    page = (visitor := Visitor(browser, url)).page
    page.evaluate(_FAKE_SOCKETS)
    page.evaluate(
        """async () => {
          const { LiveSession } = await load("live_session.js");
          window.states = [];
          const onEvent = ({ state }) => state && states.push(state);
          window.link = new LiveSession(document.createElement("video"), { avatarId: "a", sampleRate: 24000, onEvent });
          link.timers.forEach(clearInterval); // only this test calls report()
        }"""
    )
    visitor.until("sockets.length === 1")
    page.evaluate("sockets[0].receive(...live); for (let i = 0; i < 59; i++) link.report()")
    assert page.evaluate("states") == ["connected"]
    page.evaluate("sockets[0].receive(live[1]); for (let i = 0; i < 60; i++) link.report()")
    assert page.evaluate("[sockets[0].readyState, states.at(-1)]") == [3, "reconnecting"]
    visitor.until("sockets.length === 2")
    page.evaluate("sockets[0].receive(...live); sockets[1].receive(...live)")
    assert page.evaluate("states") == ["connected", "reconnecting", "connected"]


def test_element_with_new_avatar_speaks_in_a_new_session(browser: Any, url: str) -> None:
    page = (visitor := Visitor(browser, url)).page
    page.evaluate(_FAKE_SOCKETS)
    page.evaluate(
        """async () => {
          await load("lipwright_avatar.js");
          window.element = document.createElement("lipwright-avatar");
          for (const name of ["avatar", "picture"]) element.setAttribute(name, "");
          element.getToken = () => "lwt_1";
          document.body.append(element);
          element.connect();
        }"""
    )
    visitor.until("sockets.length === 1")
    page.evaluate("sockets[0].receive(...live); element.setAttribute('avatar', 'b'); element.speak('Good day.')")
    assert "Good day." in visitor.until("sockets[1]?.sent[0]")
    page.evaluate("MediaSource.isTypeSupported = () => false; sockets[1].receive({ type: 'session.stream' })")
    assert page.evaluate("element.state") == "error"
    assert "This browser cannot show the avatar." in page.inner_text("lipwright-avatar .status")


VOICES = {"is_available": True, "default": "beep", "voices": ["beep"], "max_chars": 100, "can_clone": False}


def test_live_card_reconnects_and_sends_text_again(browser: Any, tmp_path: Path, sample_portrait: Path) -> None:
    service = MemoryService(tmp_path)
    service.looked_at = "face"
    live = GreyAvatars(service.table)
    live.graph = acting_graph()
    live.admission = type(live.admission)(LiveConfig(max_sessions=4))
    with serving(service, live=live) as url, breaking_proxy(url) as proxy:
        visitor = Visitor(browser, proxy.url)
        sent: list[str] = []
        visitor.page.on("websocket", lambda socket: socket.on("framesent", lambda data: sent.append(data)))
        visitor.page.route("**/v1/voices", lambda route: route.fulfill(json=VOICES))
        visitor.page.click("#live summary")
        visitor.until("document.querySelector('#live-who').value === 'own'")
        visitor.page.set_input_files("#live-face input[type=file]", sample_portrait)
        visitor.page.evaluate(NO_AUTOPLAY)
        visitor.page.evaluate("document.querySelector('#live-start').click()")
        visitor.page.click("#live-unmute")
        visitor.until("!document.querySelector('#live-video').muted && !document.querySelector('#live-unmute')")
        visitor.until(f"{STATE} === 'idle' && document.querySelector('#live-video').currentTime > 1")
        first = visitor.page.evaluate("document.querySelector('#live-video').src")
        actions = visitor.page.get_by_role("group", name="Actions").get_by_role("button")
        assert actions.all_text_contents() == ["wave", "nod"]
        visitor.page.fill("#live-text", "Hi [wawe]")
        visitor.page.click("#live-written button")
        visitor.until("document.querySelector('#live-error').textContent.includes(\"no action 'wawe'\")")
        assert visitor.page.input_value("#live-text") == "Hi [wawe]", "to be corrected"
        sent.clear()
        visitor.page.fill("#live-text", "Good day.")
        proxy.answers.clear()  # the page does not learn what has become of the text
        visitor.page.click("#live-written button")
        proxy.refuses = True
        proxy.cut()
        proxy.answers.set()
        visitor.until(f"{STATE} === 'reconnecting'")
        assert "Reconnecting" in visitor.text("#live-status")
        proxy.refuses = False
        visitor.until(f"{STATE} === 'idle'")
        visitor.until(f"document.querySelector('#live-video').src !== '{first}'")
        visitor.until("document.querySelector('#live-video').currentTime > 0.5")
        texts = [fields for fields in map(json.loads, filter(None, sent)) if fields["type"] == "agent.speak_text"]
        assert [fields["text"] for fields in texts] == ["Good day."] * 2
        assert len({fields["event_id"] for fields in texts}) == 1
        proxy.refuses = True
        proxy.cut()
        visitor.until(f"{STATE} === 'reconnecting'")
        visitor.page.click("#live-stop")
        visitor.until(f"{STATE} === 'off'")


STREAM_STATE = "document.documentElement.dataset.state"


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


def test_stream_page_itself_needs_no_key(tmp_path: Path) -> None:
    FileKeyRing(tmp_path).add("a studio")
    with serving(MemoryService(tmp_path), live=GreyService()) as url:
        answer = httpx.get(f"{url}/live.html", trust_env=False)
    assert answer.status_code == 200
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert "style=" not in answer.text


ELEMENT = "document.querySelector('lipwright-avatar')"
ROOT = f"{ELEMENT}.shadowRoot"
EVENTS = ("ready", "speaking", "silent", "ended", "error")
PAGE = """<!doctype html><html lang="en"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>A shop</title><script type="module" src="{service}/widget/lipwright-avatar.js"></script>
<main><h1>A shop</h1><lipwright-avatar avatar="{avatar}" token-url="/token"></lipwright-avatar></main></html>"""

# Chromium's policy without a click; for it, every `evaluate` is a click.
NO_AUTOPLAY = """() => {
  const { play } = HTMLMediaElement.prototype;
  let wasClicked = false;
  addEventListener("click", ({ isTrusted }) => (wasClicked ||= isTrusted), true);
  HTMLMediaElement.prototype.play = function () {
    return this.muted || wasClicked ? play.call(this) : Promise.reject(new DOMException("", "NotAllowedError"));
  };
}"""


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


@contextmanager
def open_shop(site: Site, service_url: str | None = None, **limits: Any) -> Iterator[Shop]:
    shop = Shop(site, service_url or str(site.http.base_url).rstrip("/"), limits)
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


def test_element_on_other_origin_shows_picture_and_speaks(browser: Any, tmp_path: Path, sample_portrait: Path) -> None:
    with (
        speaking() as voice,
        site_with_avatar(tmp_path, tts=TtsConfig(url=voice.url, voice="kim")) as site,
        open_shop(site) as shop,
    ):
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


def test_element_speaks_what_the_microphone_records(browser: Any, tmp_path: Path) -> None:
    with site_with_avatar(tmp_path) as site, open_shop(site, actions=["audio"]) as shop:
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


def test_element_reconnects_with_a_fresh_token(browser: Any, tmp_path: Path) -> None:
    with (
        site_with_avatar(tmp_path) as site,
        breaking_proxy(str(site.http.base_url).rstrip("/")) as proxy,
        open_shop(site, proxy.url) as shop,
    ):
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


def test_element_with_token_of_other_origin_shows_error(browser: Any, tmp_path: Path) -> None:
    with site_with_avatar(tmp_path) as site, open_shop(site, origin="https://other.example") as shop:
        visitor = visit(browser, shop)
        visitor.page.get_by_role("button", name="Start").click()
        visitor.until(f"{ELEMENT}.state === 'error'")
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
        visitor.until(f"{ELEMENT}.state === 'busy'")
        assert visitor.page.get_by_role("status").inner_text().startswith("Busy. Try again in ")
        assert visitor.page.get_by_role("button", name="Start").is_visible()
