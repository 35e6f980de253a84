from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from fractions import Fraction

import cv2
import numpy as np
import pytest

from errors import OptionError
from media.probe import ColourTags
from media.yuv_frame import YuvFrame
from models.clips.fitting import FittedClip, fit_clip
from models.track.raw_landmarks import SkipReason
from tests.unit.media.clips import NumberedFrames, info_of, number_of
from tests.unit.models.clips.tracks import track_at

OWN = info_of(192, 160, Fraction(25), 60)
TRACK = track_at(np.full(60, 96.0), 70.0)


def fit(
    num: int,
    fps: int = 25,
    size: tuple[int, int] = (192, 160),
    at: tuple[float, float] = (96.0, 70.0),
    eyes: float = 50.0,
) -> FittedClip:
    track = track_at(np.full(num, at[0]), at[1], eyes)
    return fit_clip("wave", info_of(*size, Fraction(fps), num), track, OWN, TRACK)


@pytest.mark.parametrize(("num", "fps"), [(3, 25), (20, 25), (62, 1)])
def test_fit_clip_too_short_or_too_long_raises(num: int, fps: int) -> None:
    with pytest.raises(OptionError, match="'wave': expected a video of 1 to 60 s"):
        fit(num, fps)


def test_fit_clip_long_own_video_is_used_in_part() -> None:
    info, track = info_of(192, 160, Fraction(1), 310), track_at(np.full(310, 96.0), 70.0)
    assert len(fit_clip("", info, track, info, track).points) == 300


def test_fit_clip_without_a_face_raises() -> None:
    hidden = replace(TRACK, skip_reason=np.full(60, SkipReason.NO_FACE, np.uint8))
    with pytest.raises(OptionError, match="'wave': the face is seen in 0% of the frames"):
        fit_clip("wave", OWN, hidden, OWN, TRACK)


@pytest.mark.parametrize("eyes", [20.0, 80.0])
def test_fit_clip_face_of_another_size_raises(eyes: float) -> None:
    with pytest.raises(OptionError, match=f"'wave': the face is {eyes / 50:.2g} times as large"):
        fit(60, eyes=eyes)


def test_fit_clip_converts_the_frame_rate() -> None:
    made = fit(100, fps=50)
    frames = list(made.frames(NumberedFrames(size=(192, 160))))
    assert len(frames) == 50
    assert [number_of(frame) for frame in frames[:4]] in ([0, 2, 4, 6], [1, 3, 5, 7])


def test_fit_clip_same_size_keeps_frames_and_points() -> None:
    made = fit(60)
    (frame, *_) = made.frames(source := NumberedFrames(size=(192, 160)))
    (wanted,) = source.read([0])
    assert all(np.array_equal(one, other) for one, other in zip(frame, wanted, strict=True))
    np.testing.assert_allclose(made.points, TRACK.points[..., :2], atol=1e-3)


def test_fit_clip_other_size_is_scaled_and_cropped() -> None:
    made = fit(60, size=(400, 320), at=(200.0, 140.0), eyes=100.0)
    (frame, *_) = made.frames(NumberedFrames(size=(400, 320)))
    assert frame.y.shape == (160, 192)
    np.testing.assert_allclose(made.points, TRACK.points[..., :2], atol=0.6)
    assert made.eyes == pytest.approx(50, rel=0.01)


def test_fit_clip_smaller_face_is_enlarged_and_moved() -> None:
    made = fit(60, at=(72.0, 60.0), eyes=34.0)
    np.testing.assert_allclose(made.points.mean((0, 1)), TRACK.points[..., :2].mean((0, 1)), atol=2)
    assert made.eyes == pytest.approx(50, rel=0.02)


def test_fit_clip_converts_the_colours() -> None:
    info = replace(info_of(192, 160, Fraction(25), 60), colour=ColourTags(1, True, 1, 1))
    made = fit_clip("wave", info, TRACK, OWN, TRACK)
    (full, *_), (limited, *_) = (each.frames(NumberedFrames(size=(192, 160))) for each in (made, fit(60)))
    assert int(full.y.max()) == pytest.approx(16 + int(limited.y.max()) * 219 / 255, abs=2)


class _Pictures:
    """Frames of a dark figure, and of vertical stripes behind it."""

    def __init__(self, x: int, y: int, stripes: int) -> None:
        luma = np.full((160, 192), 150, np.float32)
        luma[:, np.arange(192) ** 2 // 150 % 2 == 0] += stripes
        luma[y - 40 : y + 30, x - 30 : x + 30] = 60
        luma[y + 40 :, x - 60 : x + 60] = 90
        half = np.full((80, 96), 128, np.uint8)
        self._frame = YuvFrame(cv2.GaussianBlur(luma, (0, 0), 1).clip(0, 255).astype(np.uint8), half, half)

    def read(self, indices: Iterable[int]) -> Iterator[YuvFrame]:
        return (self._frame for _ in indices)

    def close(self) -> None:
        pass


@pytest.mark.parametrize(("stripes", "moves"), [(0, True), (140, False)])
def test_aligned_moves_people_but_not_backgrounds(stripes: int, moves: bool) -> None:
    own, clip = fit(60), fit(60, at=(104.0, 75.0))
    there, here = _Pictures(96, 70, stripes), _Pictures(104, 75, stripes)
    aligned = clip.aligned(here, own, there)
    assert (np.abs(aligned.points - own.points)[..., 0].mean() < 1) == moves  # stripes do not tell how high they are
    (shown, *_), (wanted, *_) = aligned.frames(here), own.frames(there)
    error = np.abs(shown.y.astype(int) - wanted.y)[8:-8, 8:-8].mean()
    assert error < 2 or not moves
    larger = aligned.enlarged(aligned.margin)
    assert aligned.margin > 0.03 or not moves
    assert larger.margin < 0.001 or not moves


def test_aligned_person_who_moves_that_far_is_not_moved() -> None:
    own, clip = fit(60), fit(60, at=(104.0, 75.0))
    sway = np.linspace(-20, 20, len(own.points), dtype=np.float32)[:, None, None]
    there, here = _Pictures(96, 70, 0), _Pictures(104, 75, 0)
    assert clip.aligned(here, own, there) is not clip
    assert clip.aligned(here, replace(own, points=own.points + sway), there) is clip
