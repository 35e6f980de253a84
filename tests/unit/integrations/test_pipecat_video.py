"""The video service in Pipecat's own pipelines, with the real routes of live sessions."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from lipwright.config import LiveConfig
from tests.unit.api.live.live_parts import AVATAR, SIDE, GreyService
from tests.unit.api_server import MemoryService, serving

pytest.importorskip("pipecat", reason="needs pipecat-ai (pip install -e .[pipecat], in an environment of its own)")

from pipecat.frames.frames import (  # noqa: E402
    ErrorFrame,
    InterruptionFrame,
    OutputImageRawFrame,
    TextFrame,
    TTSAudioRawFrame,
    TTSStartedFrame,
    TTSStoppedFrame,
)
from pipecat.tests.utils import SleepFrame, run_test  # noqa: E402

from integrations.pipecat_video import LipwrightActionFrame, LipwrightVideoService  # noqa: E402

RATE = 16000
VOICE = (8000 * np.sin(np.arange(RATE) / 10)).astype("<i2")  # a second


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    # The place of the session before may not be free yet.
    live = LiveConfig(max_stall_s=60)
    with serving(MemoryService(tmp_path_factory.mktemp("pipecat")), live=GreyService(8), live_config=live) as url:
        yield url


def voice(num_channels: int = 1) -> list[Any]:
    parts = np.split(VOICE, 10)
    return [TTSAudioRawFrame(np.repeat(part, num_channels).tobytes(), RATE, num_channels) for part in parts]


def run(url: str, frames: list[Any], avatar: str = AVATAR) -> tuple[list[Any], list[Any]]:
    """What came out downstream and upstream."""
    service = LipwrightVideoService(avatar_id=avatar, server=url)
    down, up = asyncio.run(run_test(service, frames_to_send=frames, start_timeout=60))
    return list(down), list(up)


def heard(frames: list[Any]) -> np.ndarray[Any, np.dtype[np.int16]]:
    sounds = [np.frombuffer(frame.audio, np.int16) for frame in frames if isinstance(frame, TTSAudioRawFrame)]
    return np.concatenate([np.zeros(0, np.int16), *sounds])


@pytest.mark.parametrize("num_channels", [1, 2])
def test_video_service_turns_audio_into_video_and_audio(url: str, num_channels: int) -> None:
    said = [TTSStartedFrame(), *voice(num_channels), TTSStoppedFrame(), TextFrame("passed on")]
    down, up = run(url, [*said, SleepFrame(3.0)])
    pictures = [frame for frame in down if isinstance(frame, OutputImageRawFrame)]
    assert {(frame.size, frame.format, len(frame.image)) for frame in pictures} == {((SIDE, SIDE), "RGB", 3 * SIDE**2)}
    assert np.frombuffer(pictures[0].image, np.uint8).mean() == pytest.approx(28, abs=4), "grey, 40 of 16 to 235"
    sound = heard(down)
    loud = np.flatnonzero(np.abs(sound.astype(int)) > 800) / 48000
    assert loud[-1] - loud[0] == pytest.approx(1.0, abs=0.1)
    assert len(sound) / 48000 == pytest.approx(1.0, abs=0.3), "silence is not played"
    kinds = [type(frame) for frame in down]
    assert kinds.count(TTSStoppedFrame) == kinds.count(TextFrame) == 1
    after = kinds[kinds.index(TTSStoppedFrame) :]
    assert TTSAudioRawFrame not in after, "the end follows the last sound"
    assert OutputImageRawFrame in after, "the avatar idles"
    assert up == []


def test_video_service_interruption_stops_the_audio(url: str) -> None:
    long = [frame for _ in range(20) for frame in voice()]
    down, _ = run(url, [*long, SleepFrame(1.5), InterruptionFrame(), SleepFrame(1.0)])
    kinds = [type(frame) for frame in down]
    after = kinds[kinds.index(InterruptionFrame) :]
    assert 0 < len(heard(down)) / 48000 < 4
    assert after.count(TTSAudioRawFrame) <= 1, "one may have been under way"
    assert OutputImageRawFrame in after
    assert TTSStoppedFrame not in kinds


def test_video_service_speaks_after_an_interruption(url: str) -> None:
    first = [frame for _ in range(5) for frame in voice()]
    down, _ = run(url, [*first, SleepFrame(1.0), InterruptionFrame(), *voice(), TTSStoppedFrame(), SleepFrame(3.0)])
    kinds = [type(frame) for frame in down]
    after = down[kinds.index(InterruptionFrame) :]
    loud = np.flatnonzero(np.abs(heard(after).astype(int)) > 800) / 48000
    assert loud[-1] - loud[0] == pytest.approx(1.0, abs=0.15)
    assert TTSStoppedFrame in kinds


def test_video_service_errors_are_reported_upstream(url: str) -> None:
    _, up = run(url, [LipwrightActionFrame(action="wave"), SleepFrame(1.0)])
    assert any(isinstance(frame, ErrorFrame) and "need an avatar with clips" in frame.error for frame in up)
    down, up = run(url, [*voice(), TextFrame("passed on"), SleepFrame(1.0)], avatar="nobody")
    assert any(isinstance(frame, ErrorFrame) and "nobody" in frame.error for frame in up)
    assert [type(frame) for frame in down] == [TextFrame]
