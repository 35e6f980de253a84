"""The rate is that of the moving part; what stands still is held, and what no camera takes is refused."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from config import MediaLimits
from errors import MediaLimitError
from media.frame_rate import FrameRate, frame_rate
from media.probe import probe_video
from media.reader import FrameReader
from tests.unit.media.bombs import write_fast_video, write_frozen_video
from tests.unit.media.clips import LIMITS, number_of

MS = Fraction(1, 1000)


def rate_of(times_ms: Sequence[float], last_ms: int = 40) -> FrameRate:
    return frame_rate(np.round(times_ms).astype(np.int64), MS, last_ms, ())


def at(fps: float, num: int, start_ms: float = 0.0) -> list[float]:
    return [start_ms + 1000 * k / fps for k in range(num)]


def test_probe_video_frame_rate_above_240_is_refused(tmp_path: Path) -> None:
    for fps in (400_000, 1000, 250):
        path = write_fast_video(tmp_path / "fast.mp4", fps)
        with pytest.raises(
            MediaLimitError, match=rf"^fast\.mp4: expected at most 240 frames per second, found {fps}\.$"
        ):
            probe_video(path, LIMITS)
    assert probe_video(write_fast_video(tmp_path / "slow.mp4", 240), LIMITS).fps == 240


@pytest.mark.parametrize("seconds", [0.48, 60.0])
def test_probe_video_frozen_picture_keeps_rate_and_length(tmp_path: Path, seconds: float) -> None:
    path = write_frozen_video(tmp_path / "frozen.mp4", seconds)
    info = probe_video(path, LIMITS)
    assert (info.fps, info.is_variable_rate) == (Fraction(25), True)
    assert info.num_frames == round((3.0 + seconds) * 25)
    assert info.frozen_seconds == pytest.approx(max(0.0, seconds + 0.04 - 0.5), abs=0.01)
    with FrameReader(path, info, 0) as reader:
        gap = round(25 * seconds)
        numbers = [number_of(planes) for planes in reader.read([0, 10, 49, 50, 49 + gap // 2 - 1, 50 + gap, 74 + gap])]
    assert numbers == [0, 10, 49, 49, 49, 50, 74]


def test_probe_video_last_frame_does_not_set_the_rate(tmp_path: Path) -> None:
    info = probe_video(write_frozen_video(tmp_path / "slide.mp4", 40.0, num_before=3, num_after=1), LIMITS)
    assert (info.fps, info.num_frames) == (Fraction(25), 1004)


@pytest.mark.parametrize(
    ("times_ms", "last_ms", "fps"),
    [
        ([*at(25, 20), *at(25, 20, 1300)], 40, 25),  # the rate is kept on both sides of a gap
        ([t for k, t in enumerate(at(30, 300)) if k % 9], 33, 30),  # one frame in nine was lost
        ([*at(30000 / 1001, 90), *at(30000 / 1001, 90, 70_000)], 33, Fraction(30000, 1001)),
        ([*at(25, 20), *at(12.5, 20, 800)], 80, Fraction(50, 3)),  # two rates: their average
        ([t + 4 * (k % 3) for k, t in enumerate(at(30, 60))], 33, 30),  # a telephone's jitter
        ([300 * (k // 8) + k % 8 for k in range(64)], 293, Fraction(80, 3)),  # sent on in bursts
        ([0, 20_000, 40_000, 60_000], 20_000, 25),  # pictures that are held
    ],
)
def test_frame_rate_is_that_of_the_moving_part(times_ms: Sequence[float], last_ms: int, fps: Fraction) -> None:
    assert float(rate_of(times_ms, last_ms).fps) == pytest.approx(float(fps), rel=2e-3)


def test_frame_rate_lost_frames_are_not_frozen() -> None:
    assert rate_of([*at(25, 20), *at(25, 20, 1200)]).frozen_seconds == 0.0
    assert rate_of([*at(25, 20), *at(25, 20, 11_260)]).frozen_seconds == pytest.approx(10.0)


def test_probe_video_frozen_for_hours_is_refused(tmp_path: Path) -> None:
    path = write_frozen_video(tmp_path / "hours.mp4", 3000.0)
    with pytest.raises(
        MediaLimitError, match=r"is frozen for at most 30\d s, found 3000 s \(limits.max_frozen_seconds"
    ):
        probe_video(path, LIMITS)
    assert probe_video(path, MediaLimits(max_frozen_seconds=3600)).fps == 25
    assert probe_video(write_frozen_video(tmp_path / "minutes.mp4", 290.0), LIMITS).num_frames == 25 * 293
