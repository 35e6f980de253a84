"""Live sessions through the client, also over a connection that breaks, against the real routes on a real socket."""

from __future__ import annotations

import io
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import repeat, takewhile
from pathlib import Path

import av
import numpy as np
import pytest

import lipwright_client as package
from lipwright import errors
from lipwright.cli.live import JoinedStream
from lipwright.config import LiveConfig
from lipwright.jobs.model.avatar_settings import AvatarSettings
from lipwright.storage.local.api_keys import FileKeyRing
from lipwright_client import AsyncLipwright, AsyncLiveSession, Lipwright, LiveEvent
from lipwright_client.live_protocol import PacedAudio
from models.avatar.behaviour import Behaviour, TimedBehaviour
from tests.ports import quiet_port
from tests.unit.api.live.live_parts import AVATAR, GreyAvatars, GreyService
from tests.unit.api_server import MemoryService, serving
from tests.unit.clip_graphs import acting_graph
from tests.unit.lipwright_client.breaking_proxy import BreakingProxy, breaking_proxy
from tests.unit.net.push.receivers import rtmp_server

RATE = 24000
VOICE = (8000 * np.sin(np.arange(RATE) / 20)).astype("<i2").tobytes()


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    # The place of the session before may not be free yet.
    live = LiveConfig(max_stall_s=60)
    with serving(MemoryService(tmp_path_factory.mktemp("live")), live=GreyService(8), live_config=live) as url:
        yield url


@pytest.fixture
def service(service: MemoryService) -> MemoryService:
    """Says of every face that is sent that it can speak."""
    service.looked_at = "face"
    return service


@pytest.fixture
def faces(service: MemoryService) -> Iterator[str]:
    """A service that shows the avatar that was sent."""
    with serving(service, live=GreyAvatars(service.table)) as url:
        yield url


def pieces(voice: bytes) -> list[bytes]:
    return [voice[start : start + 4800] for start in range(0, len(voice), 4800)]


def seconds_of(stream: bytes) -> tuple[float, float]:
    """Length of the pictures and of the loud sound."""
    with av.open(io.BytesIO(stream), "r") as container:
        num_frames = len(list(container.decode(video=0)))
    with av.open(io.BytesIO(stream), "r") as container:
        heard = np.concatenate([frame.to_ndarray()[0] for frame in container.decode(audio=0)])
    loud = np.flatnonzero(np.abs(heard) > 0.02) / 48000
    return num_frames / 25, float(loud[-1] - loud[0])


def test_live_options_reach_the_renderer(tmp_path: Path) -> None:
    live = GreyService()
    with serving(MemoryService(tmp_path), live=live) as url, Lipwright(url) as client:
        options = {"expressiveness": 1.5, "motion": 0.5, "background": "white", "matte": "person"}
        with client.live(AVATAR, **options) as session:  # type: ignore[arg-type]
            next(event for event in session if event.type == "session.fragment")
        assert live.settings == [AvatarSettings(expressiveness=1.5, motion=0.5, background="#ffffff", matte="person")]
        assert {(request.expressiveness, request.behaviours) for request in live.requests} == {
            (1.5, (TimedBehaviour(0.0, Behaviour(motion=0.5)),))
        }
        assert {request.background and request.background.colour for request in live.requests} == {"#ffffff"}
        with pytest.raises(package.OptionError, match="no transparency"), client.live(AVATAR, background="transparent"):
            pass


def test_live_background_file_is_sent_before_the_session(tmp_path: Path) -> None:
    live, service = GreyService(), MemoryService(tmp_path)
    office = tmp_path / "office.jpg"
    office.write_bytes(b"office")
    with serving(service, live=live) as url, Lipwright(url) as client:
        sent = client.create_background(office)
        assert (sent.file, sent.width, sent.is_still) == ("office.jpg", 64, True)
        with client.live(AVATAR, background_file=office, background_loop="hold") as session:
            next(event for event in session if event.type == "session.fragment")
        assert live.settings == [AvatarSettings(background_id=sent.id, background_loop="hold")]
        service.looked_at = errors.MediaError("office.jpg: neither a picture nor a video")
        with pytest.raises(package.InputError, match="office.jpg"), client.live(AVATAR, background_file=office):
            pass
        assert len(live.settings) == 1 and not service.uploads()
        client.delete_background(sent.id)
        with pytest.raises(package.NotFoundError):
            client.delete_background(sent.id)
    with pytest.raises(package.UploadError, match="background_file"):
        client.live(AVATAR, background="blur", background_file=office)


def test_interrupt_ends_the_speech(url: str) -> None:
    with Lipwright(url) as client, client.live(AVATAR) as session:
        session.speak(VOICE * 5)
        for event in session:
            if event.type == "agent.speak_started":
                session.interrupt()
            if event.type == "agent.speak_interrupted":
                break
    assert event.raw["at_seconds"] < 2


def test_speak_from_another_thread_is_spoken(url: str) -> None:
    with Lipwright(url) as client, client.live(AVATAR) as session:
        session.speak_text("Good day.")
        failed = next(event.raw for event in session if event.type == "error")
        assert "no voice" in failed["message"]

        def say() -> None:
            session.speak(VOICE)
            session.speak_end()

        threading.Timer(0.3, say).start()
        assert any(event.type == "agent.speak_ended" for event in session if event.type.startswith("agent"))


def test_live_refusal_raises_by_its_code(url: str, tmp_path: Path) -> None:
    nowhere = Lipwright("http://127.0.0.1:9")
    with pytest.raises(package.ConnectionFailedError) as raised, nowhere.live(AVATAR):
        pass
    assert "site-packages" not in "".join(traceback.format_exception(raised.value))
    with Lipwright(url) as client:
        with pytest.raises(package.NotFoundError), client.live("nobody"):
            pass
        with pytest.raises(package.OptionError), client.live(AVATAR, sample_rate=7):
            pass
    _, key = FileKeyRing(tmp_path).add("a studio")
    with serving(MemoryService(tmp_path), live=GreyService()) as small, Lipwright(small, api_key=key) as client:
        with Lipwright(small, api_key="wrong") as other, pytest.raises(package.UnauthorizedError), other.live(AVATAR):
            pass
        with client.live(AVATAR), pytest.raises(package.BusyError, match="Try again in"), client.live(AVATAR):
            pass


def test_live_video_argument_speaks_without_a_kept_avatar(faces: str, service: MemoryService, tmp_path: Path) -> None:
    face = tmp_path / "me.mp4"
    face.write_bytes(b"a film of me")
    with Lipwright(faces) as client:
        with client.live(video=face, sample_rate=RATE) as session:
            events = list(session.say(pieces(VOICE)))
        assert client.avatars.list() == ()
    (avatar,) = service.table.list_avatars(pinned_only=False)
    assert (avatar.label, avatar.pinned) == ("me.mp4", False)
    kinds = [event.type for event in events if event.type != "session.fragment"]
    assert kinds[-3:] == ["session.stream", "agent.speak_started", "agent.speak_ended"]
    length, spoken = seconds_of(b"".join(event.media for event in events))
    assert spoken == pytest.approx(1.0, abs=0.1) and length >= 1.0


def test_live_video_without_a_face_raises_before_the_session(faces: str, service: MemoryService) -> None:
    service.looked_at = errors.FaceNotFoundError("me.mp4: expected a face, found none.")
    with Lipwright(faces) as client:
        with pytest.raises(package.FaceNotFoundError, match="found none"), client.live(video=b"a landscape"):
            pass
        for both in ({}, {"avatar_id": AVATAR, "video": b"film"}):
            with pytest.raises(package.UploadError, match="either avatar_id, video or session_id"):
                client.live(**both)  # type: ignore[arg-type]


def test_paced_audio_counts_sent_audio() -> None:
    saying = PacedAudio(repeat(bytes(2 * RATE // 2)), RATE, 5.0)

    def sent_after(number: int, buffered: float) -> float:
        raw = {"start_seconds": 0.08 * number, "buffered_seconds": buffered}
        return sum(len(piece) for piece in saying.after(LiveEvent("session.fragment", raw))) / 2 / RATE

    early = [sent_after(number, 0.0) for number in range(38)]  # they left before any sound had come
    assert early[0] == 5.0
    assert sum(early) <= 5 + 38 * 0.08 + 0.5, "and not five seconds for each"
    assert sum(sent_after(number, 4.6) for number in range(38, 100)) > 3, "as fast as it is spoken from then on"


def test_paced_audio_ends_with_an_interruption() -> None:
    saying, interrupted = PacedAudio(iter([VOICE]), RATE, 5.0), LiveEvent("agent.speak_interrupted", {})
    list(saying.after(interrupted))
    assert not saying.is_over, "of what was spoken before"
    list(saying.after(LiveEvent("session.fragment", {"start_seconds": 0.0, "buffered_seconds": 0.0})))
    list(saying.after(interrupted))
    assert saying.is_over


def test_action_is_shown_and_reported(tmp_path: Path) -> None:
    shown = GreyService()
    shown.graph = acting_graph()
    with serving(MemoryService(tmp_path), live=shown) as url, Lipwright(url) as client, client.live(AVATAR) as session:
        assert session.connected["actions"] == ["wave", "nod"]
        session.action("nod")
        event = next(event for event in session if event.type == "agent.action_started")
    assert event.raw["name"] == "nod"


SECONDS = 2
LONG_VOICE = (8000 * np.sin(np.arange(SECONDS * RATE) / 20)).astype("<i2").tobytes()
LIVE = LiveConfig(max_sessions=8, push_destinations=("rtmp://127.0.0.1:*",), max_detached_s=20, max_stall_s=60)


@contextmanager
def proxied(tmp_path: Path, live: GreyService | None = None, live_config: LiveConfig = LIVE) -> Iterator[BreakingProxy]:
    service = MemoryService(tmp_path / "data")
    with serving(service, live=live or GreyService(8), live_config=live_config) as url, breaking_proxy(url) as proxy:
        yield proxy


@pytest.fixture
def proxy(tmp_path: Path) -> Iterator[BreakingProxy]:
    with proxied(tmp_path) as proxy:
        yield proxy


def states(events: list[LiveEvent]) -> list[str]:
    return [str(event.raw["state"]) for event in events if event.type == "session.state_updated"]


def streams(events: list[LiveEvent]) -> list[bytes]:
    """The media of each stream."""
    found: list[bytes] = []
    for event in events:
        if event.type == "session.stream":
            found.append(b"")
        if event.media:
            found[-1] += event.media
    return found


async def cut_while_speaking(proxy: BreakingProxy, session: AsyncLiveSession) -> list[LiveEvent]:
    """Break the connection a second after the avatar began to speak; return all events."""
    seen: list[LiveEvent] = []
    async for event in session.say(pieces(LONG_VOICE)):
        seen.append(event)
        if event.type == "session.fragment" and event.raw["spoken_seconds"] > 1 and "reconnecting" not in states(seen):
            proxy.cut()
    assert seen[-1].type == "agent.speak_ended"
    return seen


async def test_say_over_broken_connection_continues_in_one_file(proxy: BreakingProxy) -> None:
    async with AsyncLipwright(proxy.url) as client, client.live(AVATAR, RATE) as session:
        first_id = session.connected["session_id"]
        events = await cut_while_speaking(proxy, session)
    assert states(events) == ["connecting", "connected", "reconnecting", "connecting", "connected"]
    ids = {event.raw["session_id"] for event in events if "session_id" in event.raw}
    assert len(ids) == 2 and first_id in ids
    spoken = [seconds_of(stream)[1] for stream in streams(events)]
    assert len(spoken) == 2 and min(spoken) > 0.5
    assert sum(spoken) == pytest.approx(SECONDS, abs=0.3), "everything once"
    joined = JoinedStream()
    file = b"".join(joined.media(event) for event in events)
    assert len(file) < sum(len(event.media) for event in events), "one head"
    with av.open(io.BytesIO(file), "r") as container:
        times = [float(packet.pts * packet.time_base) for packet in container.demux(video=0) if packet.pts is not None]
    assert np.allclose(np.diff(times), 0.04)
    assert times[-1] + 0.04 == pytest.approx(joined.seconds)
    assert joined.seconds == pytest.approx(sum(seconds_of(stream)[0] for stream in streams(events)))


def test_live_command_over_broken_connection_writes_a_file(faces: str, tmp_path: Path) -> None:
    face, out = tmp_path / "me.mp4", tmp_path / "live.mp4"
    face.write_bytes(b"a film of me")
    command = [sys.executable, "-m", "lipwright.cli", "live", "--video", str(face), "--out", "-", "--server"]
    with breaking_proxy(faces) as proxy, out.open("wb") as file:
        pipe = subprocess.PIPE
        with subprocess.Popen([*command, proxy.url], stdin=pipe, stdout=file, stderr=pipe) as running:
            assert running.stdin is not None and running.stderr is not None
            running.stdin.write(LONG_VOICE + b"\0")  # half a sample
            running.stdin.close()
            assert [running.stderr.readline().strip() for _ in range(2)] == [b"connecting", b"connected"]
            time.sleep(1.5)
            proxy.cut()
            said = running.stderr.read()
    assert running.returncode == 0, said
    assert said.split()[:3] == [b"reconnecting", b"connecting", b"connected"]
    assert seconds_of(out.read_bytes())[1] == pytest.approx(SECONDS, abs=1)


def test_speak_while_reconnecting_is_spoken_afterwards(proxy: BreakingProxy) -> None:
    with Lipwright(proxy.url) as client, client.live(AVATAR, RATE) as session:
        events = iter(session)
        next(event for event in events if event.type == "session.fragment")
        proxy.refuses = True
        proxy.cut()
        next(event for event in events if event.raw.get("state") == "reconnecting")
        session.speak(LONG_VOICE)
        session.speak_end()
        threading.Timer(1.0, lambda: setattr(proxy, "refuses", False)).start()
        num_accepted = proxy.num_accepted
        seen = [*takewhile(lambda event: event.type != "agent.speak_ended", events)]
    assert proxy.num_accepted - num_accepted <= 6, "tries are further and further apart"
    assert seconds_of(streams(seen)[0])[1] == pytest.approx(SECONDS, abs=0.2)


async def test_session_with_output_is_continued(proxy: BreakingProxy, tmp_path: Path) -> None:
    port = quiet_port()
    with rtmp_server(port, tmp_path / "pushed.flv"):
        async with AsyncLipwright(proxy.url) as client, client.live(AVATAR, RATE) as session:
            session_id = session.connected["session_id"]
            await session.start_output(f"rtmp://127.0.0.1:{port}/live/key")
            await anext(event async for event in session if event.raw.get("state") == "live")
            events = await cut_while_speaking(proxy, session)
            assert session.connected["session_id"] == session_id
            await session.list_outputs()
            listed = await anext(event async for event in session if event.type == "output.list")
    ends = [event.raw["start_seconds"] for event in events if event.type == "session.fragment"]
    assert ends == sorted(ends), "the time of the stream goes on"
    assert not any(event.raw.get("state") == "ended" for event in events)
    assert [output["state"] for output in listed.raw["outputs"]] == ["live"]
    assert "reconnecting" in states(events)


def test_outputs_of_lost_session_are_started_again(tmp_path: Path) -> None:
    live, port = LIVE.model_copy(update={"max_detached_s": 0.01}), quiet_port()
    with (
        proxied(tmp_path, live_config=live) as proxy,
        Lipwright(proxy.url) as client,
        client.live(AVATAR, RATE, receives_video=False) as session,
    ):
        session_id = session.connected["session_id"]
        with rtmp_server(port, tmp_path / "first.flv"):
            session.start_output(f"rtmp://127.0.0.1:{port}/live/key")
            next(event for event in session if event.raw.get("state") == "live")
        proxy.cut()
        events = iter(session)
        next(event for event in events if event.raw.get("state") == "connected")
        assert session.connected["session_id"] != session_id
        with rtmp_server(port, tmp_path / "second.flv"):
            next(event for event in events if event.raw.get("state") == "live")


@pytest.mark.parametrize("reconnect_s", [1.5, 0.0])
def test_connection_that_stays_broken_fails_after_reconnect_s(proxy: BreakingProxy, reconnect_s: float) -> None:
    with Lipwright(proxy.url) as client, client.live(AVATAR, RATE, reconnect_s=reconnect_s) as session:
        num_accepted = proxy.num_accepted
        next(event for event in session if event.type == "session.fragment")
        proxy.refuses, started = True, time.monotonic()
        proxy.cut()
        with pytest.raises(package.ConnectionFailedError) as lost:
            list(session)
        if not reconnect_s:
            assert proxy.num_accepted == num_accepted
            return
        assert "could not be restored within 1.5 s" in str(lost.value)
        assert time.monotonic() - started < 20
        with pytest.raises(package.ConnectionFailedError):
            session.speak(LONG_VOICE)


def test_session_that_service_ends_is_not_reconnected(tmp_path: Path) -> None:
    live = LIVE.model_copy(update={"idle_timeout_s": 0.5})
    with proxied(tmp_path, live_config=live) as proxy, Lipwright(proxy.url) as client, client.live(AVATAR) as session:
        events = list(session)
    assert events[-1].type == "session.ended" and "reconnecting" not in states(events)


def test_refusal_while_reconnecting_is_raised(tmp_path: Path) -> None:
    live = GreyService(8)
    with proxied(tmp_path, live) as proxy, Lipwright(proxy.url) as client, client.live(AVATAR) as session:
        events = iter(session)
        next(event for event in events if event.type == "session.fragment")
        live.refusal = errors.NotFoundError("The avatar was deleted.")
        proxy.cut()
        with pytest.raises(package.NotFoundError):
            list(events)
