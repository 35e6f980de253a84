"""What is shown while nobody renders: the avatar, idle and alive, and nothing of what is said is lost."""

from __future__ import annotations

import asyncio
import io
import json
from dataclasses import replace
from itertools import pairwise

import av
import numpy as np
import pytest

from api.live.idle_fallback import IdleFrames
from api.live.session_stream import SessionStream
from config import LiveConfig
from media.live.encoder import EncodedPictures
from media.live.mp4_boxes import ParameterSets
from tests.unit.api.live.live_parts import INFO
from tests.unit.api.live.test_session_stream import Talk, speak

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


def test_idle_frames_at_their_end_continue_with_the_oldest() -> None:
    idle = IdleFrames(INFO, 10_000)
    for number in range(4):
        idle.keep(3 * number, group(number))
    idle.begin(6)
    assert [idle.take() for _ in range(7)] == [group(n) for n in (2, 3, 0, 1, 2, 3, 0)]


def test_idle_frames_of_a_still_repeat_the_last_six_seconds() -> None:
    idle = IdleFrames(replace(INFO, num_frames=1, is_still=True), 10_000)
    for number in range(100):
        idle.keep(3 * number, group(number))
    idle.begin(300)
    shown = [idle.take() for _ in range(100)]
    assert shown == [group(50 + number % 50) for number in range(100)], "the last six seconds, again and again"


def test_idle_frames_are_bounded() -> None:
    idle = IdleFrames(INFO, 90)
    assert idle.take() is None
    for number in range(5):
        idle.keep(3 * number, group(number))
    idle.begin(0)
    assert idle.take() == group(2), "three are kept, and the newest"


def test_late_chunks_show_idle_frames_and_lose_no_speech() -> None:
    talk = Talk(LiveConfig(fallback_after_s=0.2))

    async def scene(session: SessionStream) -> None:
        await talk.until(lambda: len(talk.line.of("session.fragment")) >= 4)
        await session.take_text(speak(2.0))
        await session.take_text(json.dumps({"type": "agent.speak_end"}))
        await talk.until(lambda: talk.line.of("session.fragment")[-1]["buffered_seconds"] < 1.5)
        may_render = talk.service.may_render = asyncio.Event()  # the chunks that are asked for from now on
        await talk.until(lambda: states() == ["recovering"])
        num_shown = len(talk.line.of("session.fragment"))
        await talk.until(lambda: len(talk.line.of("session.fragment")) >= num_shown + 6)  # it is shown meanwhile
        assert states() == ["recovering"]
        may_render.set()
        await talk.until(lambda: states() == ["recovering", "connected"])
        await talk.until(lambda: bool(talk.line.of("agent.speak_ended")))

    def states() -> list[str]:
        return [said["state"] for said in talk.line.of("session.state_updated")]

    assert talk.run(scene) is None
    assert states() == ["recovering", "connected"]
    assert len(talk.line.of("agent.speak_started")) == len(talk.line.of("agent.speak_ended")) == 1
    fragments = talk.line.of("session.fragment")
    ends = np.cumsum([said["duration_seconds"] for said in fragments])
    assert np.allclose([said["start_seconds"] for said in fragments], [0, *ends[:-1]])
    with av.open(io.BytesIO(b"".join(talk.line.binaries)), "r") as container:
        heard = sum(frame.samples for frame in container.decode(audio=0)) / 48000
    assert heard == pytest.approx(ends[-1], abs=0.17), "sound and pictures end together, but for one chunk"


def test_speech_with_every_chunk_late_ends() -> None:
    talk = Talk(LiveConfig(fallback_after_s=0.05))

    async def scene(session: SessionStream) -> None:
        await talk.until(lambda: len(talk.line.of("session.fragment")) >= 8)
        talk.service.render_s = 0.1
        await session.take_text(speak(0.5))
        await session.take_text(json.dumps({"type": "agent.speak_end"}))
        await talk.until(lambda: bool(talk.line.of("agent.speak_ended")))

    assert talk.run(scene, 20) is None
    assert talk.line.of("session.state_updated")[-1]["state"] == "recovering"
    with av.open(io.BytesIO(b"".join(talk.line.binaries)), "r") as container:
        levels = np.concatenate([frame.to_ndarray()[0] for frame in container.decode(audio=0)])
    heard = np.count_nonzero(np.abs(levels) > 0.02) / 48000
    assert heard > 0.4, "all of it is heard, with pauses"


def test_spoken_chunks_refer_to_the_chunk_before_them() -> None:
    talk = Talk(LiveConfig(fallback_after_s=0.2))

    async def scene(session: SessionStream) -> None:
        await talk.until(lambda: len(talk.line.of("session.fragment")) >= 3)
        await session.take_text(speak(1.5))
        await talk.until(lambda: len(talk.line.of("session.fragment")) >= 12)
        may_render = talk.service.may_render = asyncio.Event()
        await talk.until(lambda: len(talk.line.of("session.state_updated")) == 1)
        may_render.set()
        await talk.until(lambda: len(talk.line.of("session.state_updated")) == 2)

    assert talk.run(scene) is None
    requests, fragments = talk.service.requests, talk.line.of("session.fragment")
    assert all(request.reference is None for request in requests if request.window.is_silent)
    for before, request in pairwise(requests):
        assert request.reference in (None, str(before.first_frame + before.num_frames))
    assert any(request.reference for request in requests)
    late = next(n for n, (a, b) in enumerate(pairwise(requests)) if b.first_frame > a.first_frame + a.num_frames)
    assert requests[late + 1].reference is None, "its client has not seen the chunk that was late"
    keys = [said["start_seconds"] for said in fragments if said["is_key"]]
    assert max(np.diff([*keys, fragments[-1]["start_seconds"]])) <= 0.64
    assert len(keys) < len(fragments)


def test_idle_frames_of_a_one_frame_avatar_have_one_position() -> None:
    idle = IdleFrames(replace(INFO, num_frames=1), 1000)
    idle.keep(3, group(1))
    idle.begin(9)
    assert idle.take() == group(1)
