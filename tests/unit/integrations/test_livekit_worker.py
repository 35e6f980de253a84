"""The avatar worker: LiveKit's own receiver and runner, the real routes of live sessions, and a room that is none."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from lipwright.config import LiveConfig
from lipwright_client import AsyncLipwright
from tests.unit.api.live.live_parts import AVATAR, SIDE, GreyService
from tests.unit.api_server import MemoryService, serving

pytest.importorskip("livekit.agents", reason="needs livekit-agents (pip install -e .[livekit])")

from livekit import rtc  # noqa: E402
from livekit.agents.voice.avatar import AudioSegmentEnd  # noqa: E402

from integrations.livekit_worker import ACTION_METHOD, SPEECH_RATE, LipwrightFace, show_in  # noqa: E402

VOICE = (8000 * np.sin(np.arange(48000) / 20)).astype("<i2")  # a second at 48 kHz


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    # The place of the session before may not be free yet.
    live = LiveConfig(max_stall_s=60)
    with serving(MemoryService(tmp_path_factory.mktemp("livekit")), live=GreyService(4), live_config=live) as url:
        yield url


def voice(seconds: float = 1.0) -> list[Any]:
    sound = np.tile(VOICE, max(1, round(seconds)))
    return [rtc.AudioFrame(part.tobytes(), 48000, 1, len(part)) for part in np.split(sound, len(sound) // 4800)]


def test_lipwright_face_turns_audio_into_video_and_audio(url: str) -> None:
    async def talk() -> list[Any]:
        async with AsyncLipwright(url) as client, client.live(AVATAR, SPEECH_RATE) as session:
            face, shown = LipwrightFace(session), []
            for frame in voice():
                await face.push_audio(frame)
            await face.push_audio(AudioSegmentEnd())
            async for frame in face:
                shown.append(frame)
                if isinstance(frame, AudioSegmentEnd):
                    return shown
        raise AssertionError("it did not end")

    shown = asyncio.run(asyncio.wait_for(talk(), 60))
    pictures = [frame for frame in shown if isinstance(frame, rtc.VideoFrame)]
    sound = np.concatenate([np.frombuffer(f.data, np.int16) for f in shown if isinstance(f, rtc.AudioFrame)])
    assert {(frame.width, frame.height) for frame in pictures} == {(SIDE, SIDE)}
    assert np.frombuffer(pictures[0].data, np.uint8)[: SIDE * SIDE].mean() == pytest.approx(40, abs=3)
    loud = np.flatnonzero(np.abs(sound.astype(int)) > 800) / 48000
    assert loud[-1] - loud[0] == pytest.approx(1.0, abs=0.1)
    assert len(sound) / 48000 == pytest.approx(1.0, abs=0.2), "silence is not played"


class NoRoom:
    """As much of `rtc.Room` as LiveKit's runner and receiver use: one agent, who sends streams and is called back."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, Any]] = []
        self.published: list[Any] = []
        self.rpc: dict[str, Callable[[Any], Any]] = {}
        self._rpc_handlers = self.rpc
        self.handlers: dict[str, Callable[..., Any]] = {}
        self.stream_handler: Callable[[Any, str], None] | None = None
        agent = SimpleNamespace(
            identity="agent",
            kind=rtc.ParticipantKind.PARTICIPANT_KIND_AGENT,
            state=rtc.ParticipantState.PARTICIPANT_STATE_ACTIVE,
        )
        self.remote_participants = {"agent": agent}
        self.local_participant = self
        self.identity = "avatar"

    def isconnected(self) -> bool:
        return True

    def on(self, name: str, handler: Callable[..., Any]) -> None:
        self.handlers[name] = handler

    def off(self, name: str, handler: Callable[..., Any]) -> None:
        self.handlers.pop(name, None)

    def register_byte_stream_handler(self, topic: str, handler: Callable[[Any, str], None]) -> None:
        assert topic == "lk.audio_stream"
        self.stream_handler = handler

    def unregister_byte_stream_handler(self, topic: str) -> None:
        self.stream_handler = None

    def register_rpc_method(self, name: str, handler: Callable[[Any], Any]) -> None:
        self.rpc[name] = handler

    async def publish_track(self, track: Any, options: Any) -> Any:
        self.published.append(track)
        return SimpleNamespace(wait_for_subscription=lambda: asyncio.sleep(0))

    async def perform_rpc(self, destination_identity: str, method: str, payload: str) -> str:
        self.calls.append((method, json.loads(payload) if payload else None))
        return "ok"

    def says(self, sound: bytes) -> None:
        """A stream of the agent: all of its sound, then its end."""
        pieces = iter([sound[start : start + 9600] for start in range(0, len(sound), 9600)])

        class Reader:
            info = SimpleNamespace(attributes={"sample_rate": "48000", "num_channels": "1"}, stream_id="s")

            async def __anext__(self) -> bytes:
                if (piece := next(pieces, None)) is None:
                    raise StopAsyncIteration
                return piece

        assert self.stream_handler is not None
        self.stream_handler(Reader(), "agent")

    def of(self, method: str) -> list[Any]:
        return [payload for name, payload in self.calls if name == method]


async def _until(condition: Callable[[], Any]) -> None:
    while True:
        if condition():
            return
        await asyncio.sleep(0.02)


async def test_show_in_reports_playback_and_interrupts(url: str) -> None:
    room: Any = NoRoom()
    async with asyncio.timeout(100):
        showing = asyncio.create_task(show_in(room, url, AVATAR))
        await _until(lambda: room.stream_handler is not None or showing.done())
        assert not showing.done(), showing.exception()
        assert await room.rpc[ACTION_METHOD](SimpleNamespace(payload="wave")) == ""
        room.says(VOICE.tobytes())
        await _until(lambda: room.of("lk.playback_finished"))
        room.says(np.tile(VOICE, 20).tobytes())
        await _until(lambda: len(room.of("lk.playback_started")) == 2)
        called = SimpleNamespace(caller_identity="agent", payload="")
        assert room.rpc["lk.clear_buffer"](called) == "ok"
        await _until(lambda: len(room.of("lk.playback_finished")) == 2)
        room.handlers["disconnected"]()
        await showing
    room = cast(NoRoom, room)
    whole, cut = room.of("lk.playback_finished")
    assert not whole["interrupted"]
    assert whole["playback_position"] == pytest.approx(1.0, abs=0.25)
    assert cut["interrupted"]
    assert cut["playback_position"] < 10
    assert len(room.published) == 2, "sound and picture"
