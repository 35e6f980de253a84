"""The live card of the page, and the scripts of its sessions, in a real browser."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from websockets.sync.client import connect

from lipwright.config import LiveConfig
from lipwright.errors import FaceNotFoundError
from tests.browser import ARE_ENDED, HELD_MEDIA, NO_AUTOPLAY, Visitor
from tests.unit.api.edge_client import wait_until_held
from tests.unit.api.live.live_parts import GreyAvatars
from tests.unit.api_server import MemoryService
from tests.unit.clip_graphs import acting_graph
from tests.unit.lipwright_client.breaking_proxy import breaking_proxy

STATE = "document.querySelector('#live').dataset.state"
VOICES = {"is_available": True, "default": "beep", "voices": ["beep"], "max_chars": 100, "can_clone": False}


@pytest.fixture
def service(service: MemoryService) -> MemoryService:
    service.looked_at = "face"
    return service


@pytest.fixture
def live(service: MemoryService) -> GreyAvatars:
    return GreyAvatars(service.table)


@pytest.fixture
def api_settings(live: GreyAvatars) -> dict[str, Any]:
    return {"live": live}


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


def test_live_with_uploaded_face_creates_an_unkept_avatar(
    visitor: Visitor, url: str, service: MemoryService, live: GreyAvatars, sample_portrait: Path
) -> None:
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


def test_live_card_shows_loading_avatars_and_retries(visitor: Visitor) -> None:
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


def test_live_card_shows_the_error_of_a_faceless_upload(
    visitor: Visitor, service: MemoryService, sample_portrait: Path
) -> None:
    service.looked_at = FaceNotFoundError("portrait.jpg: expected a face, found none.")
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


def test_live_card_reconnects_and_sends_text_again(
    browser: Any, url: str, live: GreyAvatars, sample_portrait: Path
) -> None:
    live.graph = acting_graph()
    live.admission = type(live.admission)(LiveConfig(max_sessions=4))
    with breaking_proxy(url) as proxy:
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


def test_interrupt_seeks_to_shut_mouth(visitor: Visitor) -> None:
    """The speech is cut at 1.2 s, where the video ends until it has come to `reached`; `playing` is shown."""
    for playing, reached, expected, case in (
        (1.0, 1.4, 1.25, "the mouth is shut there"),
        (1.0, 1.24, 1.0, "no shut mouth has come yet"),
        (1.3, 1.4, 1.3, "it is shut already"),
    ):
        before, after = visitor.page.evaluate(_INTERRUPTED, [playing, reached])
        assert before == playing, f"{case}: there is nothing to jump to"
        assert after == pytest.approx(expected), case


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


def test_silent_connection_is_closed_and_replaced(visitor: Visitor) -> None:
    page = visitor.page
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


def test_element_with_new_avatar_speaks_in_a_new_session(visitor: Visitor) -> None:
    page = visitor.page
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
