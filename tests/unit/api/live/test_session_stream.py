"""A live session without a socket: what it sends, when, how it ends, and what it shows while nobody renders."""

from __future__ import annotations

import asyncio
import base64
import io
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from itertools import pairwise
from typing import Any

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from lipwright.api.live.idle_fallback import IdleFrames
from lipwright.api.live.protocol import SessionEndedError, SessionOptions
from lipwright.api.live.session_stream import SessionServices, SessionStream
from lipwright.config import LiveConfig, NetworkConfig, TtsConfig
from lipwright.jobs.model.avatar_settings import AvatarSettings
from lipwright.media.live.encoder import EncodedPictures
from lipwright.media.live.mp4_boxes import ParameterSets
from lipwright.net.push.destination import Destinations
from lipwright.speech.service import TtsBackend, TtsService
from models.avatar.behaviour import Behaviour, TimedBehaviour
from tests.unit.api.live.live_parts import AVATAR, INFO, Collected, GreyService

RATE = 24000
SPEAK_END = json.dumps({"type": "agent.speak_end"})


class Talk:
    """A session with a client that shows everything at once."""

    def __init__(
        self,
        live: LiveConfig | None = None,
        shows: bool = True,
        voice: TtsBackend | None = None,
        is_still: bool = False,
    ) -> None:
        self.is_still = is_still
        self.service, self.line = GreyService(), Collected()
        tts = TtsService(TtsConfig(max_chars=100), voice, "beep")
        self.synthesize = partial(tts.synthesize, owner=None, purpose="live")
        self.live = live or LiveConfig()
        self.shows = shows

    @asynccontextmanager
    async def session(self) -> AsyncIterator[SessionStream]:
        """Run a session for the block, which fails if it lasts longer than two minutes."""
        shown = await self.service.prepare("s", AVATAR, None, AvatarSettings())
        if self.is_still:
            source = shown.avatar.source
            still = replace(source, info=replace(source.info, is_still=True))
            shown = shown._replace(avatar=replace(shown.avatar, source=still))
        services = SessionServices(self.service, self.synthesize, Destinations((), NetworkConfig()))
        session = SessionStream(SessionOptions("s", RATE), shown, self.live, services, self.line)
        self.running = asyncio.create_task(session.run())
        tasks = [self.running, *([asyncio.create_task(self._show(session))] if self.shows else [])]
        try:
            async with asyncio.timeout(120):
                yield session
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _show(self, session: SessionStream) -> None:
        while True:
            await asyncio.sleep(0.02)
            if self.fragments:
                message = {"type": "session.playback", "position_seconds": self.fragments[-1]["start_seconds"]}
                await session.take_text(json.dumps(message))

    @property
    def fragments(self) -> list[dict[str, Any]]:
        return self.line.of("session.fragment")

    async def say(self, session: SessionStream, seconds: float) -> None:
        """Speak, and wait until the avatar has spoken it."""
        await session.take_text(speak(seconds))
        await session.take_text(SPEAK_END)
        await self.until(lambda: bool(self.line.of("agent.speak_ended")))

    def heard(self) -> NDArray[np.float32]:
        """The samples at 48 kHz that the client received."""
        with av.open(io.BytesIO(b"".join(self.line.binaries)), "r") as container:
            return np.concatenate([frame.to_ndarray()[0] for frame in container.decode(audio=0)])

    async def until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            if self.running.done():
                self.running.result()
            await asyncio.sleep(0.01)


def speak(seconds: float) -> str:
    sound = (8000 * np.sin(np.arange(round(seconds * RATE)) / 20)).astype("<i2")
    return json.dumps({"type": "agent.speak", "event_id": "e1", "audio": base64.b64encode(sound.tobytes()).decode()})


async def test_session_stream_returns_to_idle_after_speech() -> None:
    talk = Talk()
    async with talk.session() as session:
        await talk.until(lambda: len(talk.fragments) >= 2)
        await talk.say(session, 0.5)

    kinds = [text["type"] for text in talk.line.texts if text["type"] != "session.fragment"]
    assert kinds == ["session.stream", "agent.speak_started", "agent.speak_ended"]
    assert talk.line.of("agent.speak_started")[0]["event_id"] == "e1"
    with av.open(io.BytesIO(b"".join(talk.line.binaries)), "r") as container:
        num_frames = len(list(container.decode(video=0)))
    fragments = talk.fragments
    ends = np.cumsum([each["duration_seconds"] for each in fragments])
    assert num_frames == round(25 * ends[-1])
    assert len(talk.service.requests) - len(fragments) in (0, 1), "one may be under way"
    assert [each["start_seconds"] for each in fragments] == pytest.approx([0, *ends[:-1]])
    states = [request.state for request in talk.service.requests]
    assert states[:3] == [None, 4, 8], "what a chunk gave is what the next one gets"
    assert any(not request.window.is_silent for request in talk.service.requests)


async def test_chunks_are_longest_when_all_speech_has_arrived() -> None:
    talk = Talk(LiveConfig(chunk_seconds=0.08, max_chunk_seconds=0.16))

    async with talk.session() as session:
        await talk.until(lambda: len(talk.service.requests) > 2)
        await talk.say(session, 1.2)

    lengths = [request.num_frames for request in talk.service.requests]
    spoken = [not request.window.is_silent for request in talk.service.requests]
    first = spoken.index(True)
    assert set(lengths[:first]) == {4}
    assert lengths[first + 1 : first + 5] == [4] * 4
    assert 2 in lengths[first + 5 :], "the end of the speech is near"


async def test_interrupt_of_binary_speech_is_confirmed_and_ends_it() -> None:
    talk = Talk()
    async with talk.session() as session:
        await session.take_bytes(np.full(20 * RATE, 5000, "<i2").tobytes())
        await talk.until(lambda: bool(talk.line.of("agent.speak_started")))
        await session.take_text(json.dumps({"type": "agent.interrupt"}))
        num = len(talk.service.requests)
        await talk.until(lambda: len(talk.service.requests) >= num + 3)

    (interrupted,) = talk.line.of("agent.speak_interrupted")
    cut = interrupted["at_seconds"] - 1e-6
    later = [each for each in talk.fragments if each["start_seconds"] >= cut]
    assert later and not any(each["is_speaking"] for each in later[1:])
    assert later[0]["start_seconds"] == pytest.approx(interrupted["at_seconds"])
    assert not talk.service.requests[-1].window.samples[-1500:].any()


async def test_avatar_update_changes_a_still_from_the_next_chunk() -> None:
    talk, message = Talk(is_still=True), {"type": "avatar.update", "expression": "happy"}
    async with talk.session() as session:
        await talk.until(lambda: len(talk.service.requests) > 2)
        await session.take_text(json.dumps(message))
        num = len(talk.service.requests)
        await talk.until(lambda: len(talk.service.requests) > num + 6)
    first, *_ = [request for request in talk.service.requests if len(request.behaviours) > 1]
    assert first.behaviours[1] == TimedBehaviour(first.first_frame / 25, Behaviour(expression="happy"))
    assert talk.service.requests[-1].behaviours == first.behaviours[1:], "it is blended in"


async def test_avatar_update_of_a_video_is_reported_as_an_error() -> None:
    talk = Talk()
    async with talk.session() as session:
        await session.take_text(json.dumps({"type": "avatar.update", "gaze": "camera"}))
        await session.take_text(json.dumps({"type": "avatar.update", "expression": "bored", "event_id": "7"}))
        await talk.until(lambda: len(talk.line.of("error")) == 2)
        num = len(talk.service.requests)
        await talk.until(lambda: len(talk.service.requests) > num + 1)
    errors = [(error["code"], error.get("event_id")) for error in talk.line.of("error")]
    assert errors == [("option_invalid", None), ("option_invalid", "7")]
    assert {request.behaviours for request in talk.service.requests} == {(TimedBehaviour(0.0, Behaviour()),)}


async def test_invalid_message_returns_an_error_event() -> None:
    talk = Talk()
    async with talk.session() as session:
        for message in ("{", '{"type": "agent.dance"}'):
            await session.take_text(message)
        for audio in ("%%", "café", "AAAA"):
            await session.take_text(json.dumps({"type": "agent.speak", "audio": audio}))
    assert [text["code"] for text in talk.line.of("error")] == ["option_invalid"] * 5


@pytest.mark.parametrize(
    ("live", "messages", "reason"),
    [
        (LiveConfig(max_ahead_seconds=0.6, max_stall_s=0.5), [], "playback position"),
        (LiveConfig(idle_timeout_s=0.5), [], "was idle for"),
        (LiveConfig(idle_timeout_s=0.5), [speak(0.2)], "was idle for"),  # without `agent.speak_end`
        (LiveConfig(max_buffered_seconds=1), [speak(3)], "audio buffer is full"),
        (LiveConfig(max_message_bytes=1000), [speak(1)], "bytes"),
        (LiveConfig(max_messages_per_s=5), ['{"type": "session.keep_alive"}'] * 40, "Too many messages"),
        (LiveConfig(), ["garbage"] * 40, "Too many invalid messages"),
    ],
)
async def test_session_beyond_a_limit_is_closed(live: LiveConfig, messages: list[str], reason: str) -> None:
    talk = Talk(live, shows="idle" in reason)
    with pytest.raises(SessionEndedError, match=reason):
        async with talk.session() as session:
            for message in messages:
                await session.take_text(message)
            await talk.running
    assert all(said["start_seconds"] <= 0.6 + 0.12 for said in talk.fragments)


async def test_speech_start_waits_for_less_than_a_chunk() -> None:
    talk = Talk(LiveConfig(min_buffer_seconds=0.16, chunk_seconds=0.08))

    async with talk.session() as session:
        await talk.until(lambda: len(talk.service.requests) > 2)
        assert {request.num_frames for request in talk.service.requests} == {4}
        await session.take_text(speak(0.15))  # a hundredth is missing, and does not come
        await talk.until(lambda: talk.service.requests[-1].num_frames == 1)
        await session.take_text(speak(0.15))
        await talk.until(lambda: bool(talk.line.of("agent.speak_started")))
        await talk.until(lambda: talk.service.requests[-1].num_frames == 2)

    assert talk.line.of("agent.speak_started")


HEADERS = ParameterSets(b"sps", b"pps")
PERIOD = 2 * INFO.num_frames - 2


def group(number: int, num_bytes: int = 10) -> EncodedPictures:
    return EncodedPictures((bytes([number]) * num_bytes,) * 3, HEADERS)


def test_idle_frames_continue_from_the_last_frame() -> None:
    idle = IdleFrames(INFO, 10_000)
    for number in range(20):
        idle.keep(3 * number, group(number))
    idle.begin(PERIOD + 30)
    assert [idle.take() for _ in range(3)] == [group(10), group(11), group(12)]
    idle.begin(2 * PERIOD + 13)
    assert idle.take() == group(4), "a frame beside it is near enough"
    short = IdleFrames(INFO, 10_000)
    for number in range(4):
        short.keep(3 * number, group(number))
    short.begin(6)
    assert [short.take() for _ in range(7)] == [group(n) for n in (2, 3, 0, 1, 2, 3, 0)], "its end continues with 0"
    still = IdleFrames(replace(INFO, num_frames=1, is_still=True), 10_000)
    for number in range(100):
        still.keep(3 * number, group(number))
    still.begin(300)
    shown = [still.take() for _ in range(100)]
    assert shown == [group(50 + number % 50) for number in range(100)], "the last six seconds, again and again"


def test_idle_frames_are_bounded() -> None:
    idle = IdleFrames(INFO, 90)
    assert idle.take() is None
    for number in range(5):
        idle.keep(3 * number, group(number))
    idle.begin(0)
    assert idle.take() == group(2), "three are kept, and the newest"
    single = IdleFrames(replace(INFO, num_frames=1), 1000)
    single.keep(3, group(1))
    single.begin(9)
    assert single.take() == group(1), "it has one position"


async def test_late_chunks_show_idle_frames_and_lose_no_speech() -> None:
    talk = Talk(LiveConfig(fallback_after_s=0.2))

    def states() -> list[str]:
        return [said["state"] for said in talk.line.of("session.state_updated")]

    async with talk.session() as session:
        await talk.until(lambda: len(talk.fragments) >= 4)
        await session.take_text(speak(2.0))
        await session.take_text(SPEAK_END)
        await talk.until(lambda: talk.fragments[-1]["buffered_seconds"] < 1.5)
        may_render = talk.service.may_render = asyncio.Event()  # the chunks that are asked for from now on
        await talk.until(lambda: states() == ["recovering"])
        num_shown = len(talk.fragments)
        await talk.until(lambda: len(talk.fragments) >= num_shown + 6)  # it is shown meanwhile
        assert states() == ["recovering"]
        may_render.set()
        await talk.until(lambda: states() == ["recovering", "connected"])
        await talk.until(lambda: bool(talk.line.of("agent.speak_ended")))

    assert states() == ["recovering", "connected"]
    assert len(talk.line.of("agent.speak_started")) == len(talk.line.of("agent.speak_ended")) == 1
    fragments = talk.fragments
    ends = np.cumsum([said["duration_seconds"] for said in fragments])
    assert np.allclose([said["start_seconds"] for said in fragments], [0, *ends[:-1]])
    heard = len(talk.heard()) / 48000
    assert heard == pytest.approx(ends[-1], abs=0.17), "sound and pictures end together, but for one chunk"
    requests = talk.service.requests
    assert all(request.reference is None for request in requests if request.window.is_silent)
    for before, request in pairwise(requests):
        assert request.reference in (None, str(before.first_frame + before.num_frames)), "the chunk before it"
    assert any(request.reference for request in requests)
    late = next(n for n, (a, b) in enumerate(pairwise(requests)) if b.first_frame > a.first_frame + a.num_frames)
    assert requests[late + 1].reference is None, "its client has not seen the chunk that was late"
    keys = [said["start_seconds"] for said in fragments if said["is_key"]]
    assert max(np.diff([*keys, fragments[-1]["start_seconds"]])) < 0.65
    assert len(keys) < len(fragments)


async def test_speech_with_every_chunk_late_ends() -> None:
    talk = Talk(LiveConfig(fallback_after_s=0.05))

    async with talk.session() as session:
        await talk.until(lambda: len(talk.fragments) >= 8)
        talk.service.render_s = 0.1
        await talk.say(session, 0.5)

    assert talk.line.of("session.state_updated")[-1]["state"] == "recovering"
    assert np.count_nonzero(np.abs(talk.heard()) > 0.02) / 48000 > 0.4, "all of it is heard, with pauses"
