"""A live session through the whole service: the front, Serve's proxy, the Ingress, and the deployment that renders."""

from __future__ import annotations

import base64
import io
import json
import time
import wave
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import av
import httpx
import numpy as np
import pytest
from numpy.typing import NDArray
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from lipwright_client import BusyError, Lipwright
from tests.browser import Visitor, chromium
from tests.live_playback import report_playback

START_S = 180.0


@pytest.fixture(scope="module")
def avatar(client: httpx.Client, sample_video: Path) -> str:
    made = client.post("/v1/avatars", files={"video": (sample_video.name, sample_video.read_bytes())})
    return str(made.raise_for_status().json()["id"])


class Viewer:
    """A client that shows whatever comes at once."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket
        self.stream = b""
        self.events: list[dict[str, Any]] = []

    def send(self, kind: str, **fields: Any) -> None:
        self.socket.send(json.dumps({"type": kind, **fields}))

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [said for said in self.events if said["type"] == kind]

    def until_first(self) -> None:
        """Take the first word."""
        self.events.append(json.loads(self.socket.recv(timeout=START_S)))

    def until(self, kind: str, num: int = 1) -> dict[str, Any]:
        """Take what comes up to the next event of a kind."""
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline:
            message = self.socket.recv(timeout=START_S)
            if isinstance(message, bytes):
                self.stream += message
                continue
            said = json.loads(message)
            self.events.append(said)
            if said["type"] == "session.fragment":
                report_playback(self.socket, said)
            num -= said["type"] == kind
            if num == 0:
                return dict(said)
        raise AssertionError(f"no {kind} came: {self.events[-3:]}")


@contextmanager
def viewer(url: str, query: str) -> Iterator[Viewer]:
    address = f"{url.replace('http', 'ws', 1)}/v1/live?{query}"
    with connect(address, proxy=None, max_size=2**24, open_timeout=60) as socket:
        yield Viewer(socket)


def test_an_avatar_speaks_what_is_still_being_said(service_url: str, avatar: str, short_speech: Path) -> None:
    with wave.open(str(short_speech)) as file:
        rate, sound = file.getframerate(), file.readframes(file.getnframes())
    with viewer(service_url, f"avatar_id={avatar}&sample_rate={rate}") as live:
        assert live.until("session.stream")["media_type"].startswith('video/mp4; codecs="avc1.')
        live.until("session.fragment", 4)
        for start in range(0, len(sound), rate // 5):
            live.send("agent.speak", audio=base64.b64encode(sound[start : start + rate // 5]).decode())
        live.send("agent.speak_end")
        live.until("agent.speak_started")
        live.until("agent.speak_ended")
    with av.open(io.BytesIO(live.stream), "r") as container:
        heard = np.concatenate([frame.to_ndarray()[0] for frame in container.decode(audio=0)])
    loud = np.flatnonzero(np.abs(heard) > 0.02) / 48000
    assert loud[-1] - loud[0] == pytest.approx(len(sound) / 2 / rate, abs=0.4)
    # Every session begins with the same frames: another one shows what they are where nobody speaks.
    with _another(service_url, avatar) as silent:
        silent.until("session.fragment", len(live.of("session.fragment")))
    pairs = zip(_pictures(live.stream), _pictures(silent.stream), strict=False)
    mouth = np.array([np.abs(a - b)[300:420, 190:330].mean() for a, b in pairs])
    first, last = int(loud[0] * 25), int(loud[-1] * 25)
    # Each session has its own invisible watermark of at most two levels.
    still, speaking = mouth[: first - 3].max(initial=0), mouth[first:last].mean()
    assert still < 2.5, "the same pictures until somebody speaks"
    assert speaking > still + 1.0, f"the mouth moves while there is a voice: {speaking:.1f} against {still:.1f}"


def _pictures(stream: bytes) -> list[NDArray[np.float64]]:
    with av.open(io.BytesIO(stream), "r") as container:
        return [frame.to_ndarray(format="gray").astype(float) for frame in container.decode(video=0)]


@contextmanager
def _another(url: str, avatar: str) -> Iterator[Viewer]:
    """The next session, as soon as the service knows that the last one was left."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        with viewer(url, f"avatar_id={avatar}") as live:
            live.until_first()
            if live.events[0]["type"] != "error":
                yield live
                return
        time.sleep(0.2)
    raise AssertionError("the place of a client that left was not given to another")


def test_a_full_service_refuses_new_sessions(service_url: str, avatar: str) -> None:
    with _another(service_url, avatar) as first:
        first.until("session.fragment")
        with viewer(service_url, f"avatar_id={avatar}") as second:
            refusal = second.until("error")
            assert (refusal["code"], refusal["retryable"]) == ("busy", True)
            assert refusal["retry_after_s"] > 0
            with pytest.raises(ConnectionClosed) as closed:
                second.socket.recv(timeout=30)
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == 1013
        first.until("session.fragment")
    with _another(service_url, avatar) as third:
        third.until("session.fragment")


def test_a_face_that_is_not_kept_speaks_before_its_background(
    service_url: str, client: httpx.Client, portrait: Path
) -> None:
    deadline, listed = time.monotonic() + 60, client.get("/v1/avatars").json()
    with Lipwright(service_url) as lipwright:
        avatar = lipwright.avatars.create(video=portrait, keep=False, background="black")
        while True:
            try:
                with lipwright.live(avatar.id) as session:
                    head, shown = (next(each for each in session if each.media) for _ in range(2))
                break
            except BusyError:  # the place of the test before is free as soon as the service knows
                assert time.monotonic() < deadline
                time.sleep(0.2)
        lipwright.avatars.update(avatar.id, background="source")
    for picture in _pictures(head.media + shown.media):
        assert picture[:8, :8].mean() < 25, "the colour, but for the invisible watermark"
    assert client.get("/v1/avatars").json() == listed


def test_an_unknown_avatar_is_refused_with_a_reason(service_url: str) -> None:
    assert _refusal(service_url, "avatar_id=nobody") == "not_found"
    assert _refusal(service_url, "avatar_id=nobody&sample_rate=7") == "option_invalid"


def _refusal(url: str, query: str) -> str:
    """Why a session is refused, once the place of the one before is free."""
    deadline = time.monotonic() + 60
    while True:
        with viewer(url, query) as live:
            code = str(live.until("error")["code"])
        if code != "busy" or time.monotonic() > deadline:
            return code
        time.sleep(0.2)


def test_a_visitor_speaks_through_an_avatar(service_url: str, avatar: str, client: httpx.Client) -> None:
    deadline = time.monotonic() + 120
    while client.get(f"/v1/avatars/{avatar}").json()["status"] != "ready":
        assert time.monotonic() < deadline
        time.sleep(0.2)
    with chromium() as browser:
        visitor = Visitor(browser, service_url)
        visitor.page.click("#live summary")
        visitor.until("document.querySelector('#live-who').value")
        visitor.page.select_option("#live-who", avatar)
        for _ in range(100):  # the place of the test before is free as soon as the service knows
            visitor.page.click("#live-start")
            visitor.until("document.querySelector('#live').dataset.state !== 'connecting'")
            if visitor.page.evaluate("document.querySelector('#live').dataset.state") != "off":
                break
            visitor.page.wait_for_timeout(500)
        visitor.until("document.querySelector('#live-video').currentTime > 0.5")
        visitor.page.click("#live-talk")  # Chromium's own beep in place of a microphone
        visitor.until("document.querySelector('#live').dataset.state === 'speaking'")
        visitor.picture("live")
        assert visitor.serious_violations() == []
        visitor.page.click("#live-mute")
        visitor.page.click("#live-interrupt")
        visitor.until("document.querySelector('#live').dataset.state === 'idle'")
        visitor.page.click("#live-stop")
        visitor.until("document.querySelector('#live').dataset.state === 'off'")
        assert visitor.errors == []


def test_a_text_is_spoken_and_one_that_cannot_be_is_reported(service_url: str, avatar: str) -> None:
    with _another(service_url, avatar) as live:
        live.send("agent.speak_text", text="Nobody.", voice="espeak:nonesuch", event_id="t1")
        error = live.until("error")
        assert (error["code"], error["event_id"]) == ("option_invalid", "t1")
        live.send("agent.speak_text", text="Good day.", event_id="t2")
        assert live.until("agent.speak_started")["event_id"] == "t2"
        assert live.until("agent.speak_ended")["event_id"] == "t2"
