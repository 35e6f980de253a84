"""Live sessions through the client, against the real routes on a real socket."""

from __future__ import annotations

import asyncio
import io
import subprocess
import sys
import threading
import traceback
from collections.abc import Iterator
from itertools import repeat
from pathlib import Path

import av
import numpy as np
import pytest

import errors
from config import LiveConfig
from jobs.model.avatar_settings import AvatarSettings
from lipwright_client import (
    AsyncLipwright,
    BusyError,
    ConnectionFailedError,
    FaceNotFoundError,
    InputError,
    Lipwright,
    LiveEvent,
    NotFoundError,
    OptionError,
    UnauthorizedError,
    UploadError,
)
from lipwright_client.live_protocol import PacedAudio
from models.avatar.behaviour import Behaviour, TimedBehaviour
from storage.local.api_keys import FileKeyRing
from tests.unit.api.live.live_parts import AVATAR, GreyAvatars, GreyService
from tests.unit.api_server import MemoryService, serving
from tests.unit.clip_graphs import acting_graph

RATE = 24000
VOICE = (8000 * np.sin(np.arange(RATE) / 20)).astype("<i2").tobytes()


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    # The place of the session before may not be free yet.
    live = LiveConfig(max_stall_s=60)
    with serving(MemoryService(tmp_path_factory.mktemp("live")), live=GreyService(8), live_config=live) as url:
        yield url


@pytest.fixture
def service(tmp_path: Path) -> MemoryService:
    """Says of every face that is sent that it can speak."""
    service = MemoryService(tmp_path / "data")
    service.looked_at = "face"
    return service


@pytest.fixture
def faces(service: MemoryService) -> Iterator[str]:
    """A service that shows the avatar that was sent."""
    with serving(service, live=GreyAvatars(service.table)) as url:
        yield url


def pieces() -> list[bytes]:
    return [VOICE[start : start + 4800] for start in range(0, len(VOICE), 4800)]


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
        with pytest.raises(OptionError, match="expressiveness"), client.live(AVATAR, expressiveness=3):
            pass
        with pytest.raises(OptionError, match="no transparency"), client.live(AVATAR, background="transparent"):
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
        with pytest.raises(InputError, match="office.jpg"), client.live(AVATAR, background_file=office):
            pass
        assert len(live.settings) == 1 and not service.uploads()
        client.delete_background(sent.id)
        with pytest.raises(NotFoundError):
            client.delete_background(sent.id)
    with pytest.raises(UploadError, match="background_file"):
        client.live(AVATAR, background="blur", background_file=office)


def test_say_returns_media_with_the_speech(url: str) -> None:
    with Lipwright(url) as client, client.live(AVATAR, RATE) as session:
        events = list(session.say(pieces()))
    kinds = [event.type for event in events if event.type != "session.fragment"]
    assert kinds[-3:] == ["session.stream", "agent.speak_started", "agent.speak_ended"]
    length, spoken = seconds_of(b"".join(event.media for event in events))
    assert spoken == pytest.approx(1.0, abs=0.1)
    assert length >= 1.0


def test_async_interrupt_ends_the_speech(url: str) -> None:
    async def talk() -> list[LiveEvent]:
        async with AsyncLipwright(url) as client, client.live(AVATAR) as session:
            await session.speak(VOICE * 5)
            events = []
            async for event in session:
                events.append(event)
                if event.type == "agent.speak_started":
                    await session.interrupt()
                if event.type == "agent.speak_interrupted":
                    return events
        raise AssertionError("nothing was interrupted")

    events = asyncio.run(asyncio.wait_for(talk(), 60))
    assert events[-1].raw["at_seconds"] < 2


def test_speak_from_another_thread_is_spoken(url: str) -> None:
    with Lipwright(url) as client, client.live(AVATAR) as session:

        def say() -> None:
            session.speak(VOICE)
            session.speak_end()

        threading.Timer(0.3, say).start()
        assert any(event.type == "agent.speak_ended" for event in session if event.type.startswith("agent"))


def test_speak_text_without_a_voice_is_an_error_event(url: str) -> None:
    with Lipwright(url) as client, client.live(AVATAR) as session:
        session.speak_text("Good day.")
        failed = next(event.raw for event in session if event.type == "error")
        assert "no voice" in failed["message"]


def test_live_refusal_raises_by_its_code(url: str, tmp_path: Path) -> None:
    with Lipwright(url) as client:
        with pytest.raises(NotFoundError), client.live("nobody"):
            pass
        with pytest.raises(OptionError), client.live(AVATAR, sample_rate=7):
            pass
    with (
        serving(MemoryService(tmp_path), live=GreyService()) as small,
        Lipwright(small) as client,
        client.live(AVATAR),
        pytest.raises(BusyError, match="Try again in"),
        client.live(AVATAR),
    ):
        pass


def test_live_without_service_or_key_raises(tmp_path: Path) -> None:
    with Lipwright("http://127.0.0.1:9") as client, pytest.raises(ConnectionFailedError) as raised, client.live(AVATAR):
        pass
    assert "site-packages" not in "".join(traceback.format_exception(raised.value))
    service = MemoryService(tmp_path)
    FileKeyRing(tmp_path).add("a studio")
    with (
        serving(service, live=GreyService()) as url,
        Lipwright(url, api_key="wrong") as client,
        pytest.raises(UnauthorizedError),
        client.live(AVATAR),
    ):
        pass


def test_live_video_argument_speaks_without_a_kept_avatar(faces: str, service: MemoryService, tmp_path: Path) -> None:
    face = tmp_path / "me.mp4"
    face.write_bytes(b"a film of me")
    with Lipwright(faces) as client:
        with client.live(video=face, sample_rate=RATE) as session:
            events = list(session.say(pieces()))
        assert client.avatars.list() == ()
    assert events[-1].type == "agent.speak_ended"
    (avatar,) = service.table.list_avatars(pinned_only=False)
    assert (avatar.label, avatar.pinned) == ("me.mp4", False)


def test_live_video_without_a_face_raises_before_the_session(faces: str, service: MemoryService) -> None:
    service.looked_at = errors.FaceNotFoundError("me.mp4: expected a face, found none.")
    with Lipwright(faces) as client:
        with pytest.raises(FaceNotFoundError, match="found none"), client.live(video=b"a landscape"):
            pass
        for both in ({}, {"avatar_id": AVATAR, "video": b"film"}):
            with pytest.raises(UploadError, match="either avatar_id, video or session_id"):
                client.live(**both)  # type: ignore[arg-type]


def test_live_command_video_option_reads_audio_from_stdin(faces: str, tmp_path: Path) -> None:
    face = tmp_path / "me.mp4"
    face.write_bytes(b"a film of me")
    command = [sys.executable, "-m", "cli", "live", "--video", str(face), "--server", faces, "--out", "-"]
    piped = subprocess.run(command, input=VOICE + b"\0", capture_output=True, timeout=120)
    assert piped.returncode == 0, piped.stderr
    assert seconds_of(piped.stdout)[1] == pytest.approx(1.0, abs=0.1)


def test_paced_audio_counts_sent_audio() -> None:
    saying = PacedAudio(repeat(bytes(2 * RATE // 2)), RATE, 5.0)

    def sent_after(number: int, buffered: float) -> float:
        raw = {"start_seconds": 0.08 * number, "buffered_seconds": buffered}
        return sum(len(piece) for piece in saying.after(LiveEvent("session.fragment", raw))) / 2 / RATE

    early = [sent_after(number, 0.0) for number in range(38)]  # they left before any sound had come
    assert early[0] == 5.0
    assert sum(early) <= 5 + 38 * 0.08 + 0.5, "and not five seconds for each"
    assert sum(sent_after(number, 4.6) for number in range(38, 100)) > 3, "as fast as it is spoken from then on"


def test_action_is_shown_and_reported(tmp_path: Path) -> None:
    shown = GreyService()
    shown.graph = acting_graph()
    with (
        serving(MemoryService(tmp_path), live=shown) as url,
        Lipwright(url) as client,
        client.live(AVATAR) as session,
    ):
        assert session.connected["actions"] == ["wave", "nod"]
        session.action("nod")
        event = next(event for event in session if event.type == "agent.action_started")
    assert event.raw["name"] == "nod"
