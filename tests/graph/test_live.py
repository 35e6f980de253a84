"""A live session through the whole service: the front, Serve's proxy, the Ingress, and the deployment that renders."""

from __future__ import annotations

import base64
import io
import time
from pathlib import Path

import av
import httpx
import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks.media_files import read_wav
from lipwright_client import BusyError, Lipwright
from tests.browser import Visitor, chromium
from tests.faults.viewer import connected, watching
from tests.graph.test_main_job import made_avatar
from tests.waiting import wait_until


@pytest.fixture(scope="module")
def avatar(client: httpx.Client, sample_video: Path) -> str:
    return made_avatar(client, sample_video)


def test_an_avatar_speaks_what_is_still_being_said(service_url: str, avatar: str, short_speech: Path) -> None:
    samples, rate = read_wav(short_speech)
    sound = samples.tobytes()
    with watching(service_url, avatar, f"&sample_rate={rate}", keeps_stream=True) as live:
        assert live.until_event("session.stream")["media_type"].startswith('video/mp4; codecs="avc1.')
        live.until(4)
        for start in range(0, len(sound), rate // 5):
            live.send("agent.speak", audio=base64.b64encode(sound[start : start + rate // 5]).decode())
        live.send("agent.speak_end")
        live.until_event("agent.speak_ended")
    with av.open(io.BytesIO(live.stream), "r") as container:
        heard = np.concatenate([frame.to_ndarray()[0] for frame in container.decode(audio=0)])
    loud = np.flatnonzero(np.abs(heard) > 0.02) / 48000
    assert loud[-1] - loud[0] == pytest.approx(len(sound) / 2 / rate, abs=0.4)
    # Every session begins with the same frames: another one shows what they are where nobody speaks.
    with watching(service_url, avatar, keeps_stream=True) as silent:
        silent.until(len(live.arrivals))
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


def test_a_full_service_refuses_new_sessions(service_url: str, avatar: str) -> None:
    with watching(service_url, avatar) as first:
        first.until(1)
        with connected(service_url, avatar) as second:
            refusal = second.until_event("error")
            assert (refusal["code"], refusal["retryable"]) == ("busy", True)
            assert refusal["retry_after_s"] > 0
            wait_until(lambda: second.close_code is not None)
            assert second.close_code == 1013
        first.until(len(first.arrivals) + 1)
    with watching(service_url, avatar) as third:
        third.until(1)


def test_unkept_face_speaks_before_its_background(service_url: str, client: httpx.Client, portrait: Path) -> None:
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


def test_a_visitor_speaks_through_an_avatar(service_url: str, avatar: str, client: httpx.Client) -> None:
    wait_until(lambda: client.get(f"/v1/avatars/{avatar}").json()["status"] == "ready")
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
    with watching(service_url, avatar) as live:
        live.send("agent.speak_text", text="Nobody.", voice="espeak:nonesuch", event_id="t1")
        error = live.until_event("error")
        assert (error["code"], error["event_id"]) == ("option_invalid", "t1")
        live.send("agent.speak_text", text="Good day.", event_id="t2")
        for kind in ("agent.speak_started", "agent.speak_ended"):
            assert live.until_event(kind)["event_id"] == "t2"
