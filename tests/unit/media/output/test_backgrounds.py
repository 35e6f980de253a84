"""Backgrounds of live sessions in the form in which they are shown."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from config import MediaLimits
from errors import MediaLimitError
from media.output.backgrounds import check_length, fit_background, fitted_info, playback_of
from media.playback import AfterEnd
from media.probe import ColourTags, VideoInfo, probe_video
from media.reader import FrameReader
from media.yuv_frame import YuvFrame, from_rgb, to_rgb
from tests.unit.media.clips import NumberedFrames, info_of, number_of

SHOWN = info_of(192, 128, fps=Fraction(25), num_frames=300, colour=ColourTags(1, False, 1, 1))
SENT = info_of(384, 256, fps=Fraction(50), num_frames=20)
_SENT_FRAMES = NumberedFrames(size=(384, 256))


def _shown(own: VideoInfo, after_end: AfterEnd, num_frames: int, path: Path, source: NumberedFrames) -> list[YuvFrame]:
    """The first frames that a session shows of a background."""
    path.write_bytes(fit_background(source, own, SHOWN, after_end))
    info = fitted_info(own, SHOWN, after_end)
    found = probe_video(path, MediaLimits())
    assert (found.width, found.height, found.fps) == (SHOWN.width, SHOWN.height, SHOWN.fps)
    assert (found.num_frames, found.colour) == (info.num_frames, SHOWN.colour)
    index = playback_of(after_end).source_frames(range(num_frames), info.num_frames)
    with FrameReader(path, info, 2**24) as reader:
        return list(reader.read(index.tolist()))


@pytest.mark.parametrize(
    ("after_end", "expected"),
    [
        ("loop", [1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 1, 3]),
        ("hold", [1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 19, 19]),
        ("pingpong", [1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 17, 15, 13, 11, 9, 7, 5, 3, 1, 3]),
    ],
)
def test_fit_background_video_has_size_and_rate_of_the_session(
    after_end: AfterEnd, expected: list[int], tmp_path: Path
) -> None:
    frames = _shown(SENT, after_end, len(expected), tmp_path / "fitted.mp4", _SENT_FRAMES)
    assert [number_of(frame) for frame in frames] == expected


def test_fit_background_picture_keeps_its_colours(tmp_path: Path) -> None:
    own = info_of(SENT.width, SENT.height, is_still=True, colour=ColourTags(6, True, 6, 6))
    rgb = np.full((SENT.height, SENT.width, 3), (200, 30, 40), np.uint8)
    first, second = _shown(own, "loop", 2, tmp_path / "fitted.mp4", NumberedFrames(from_rgb(rgb, own.colour)))
    assert np.array_equal(first.y, second.y)
    assert np.abs(to_rgb(first, SHOWN.colour)[64, 96].astype(int) - [200, 30, 40]).max() <= 5


def test_fit_background_slow_video_repeats_frames(tmp_path: Path) -> None:
    own = info_of(SENT.width, SENT.height, fps=Fraction(10), num_frames=2)
    frames = _shown(own, "loop", 6, tmp_path / "fitted.mp4", _SENT_FRAMES)
    assert [number_of(frame) for frame in frames] == [0, 0, 1, 1, 1, 0]


def test_check_length_long_video_is_refused() -> None:
    check_length(info_of(64, 64, num_frames=1500, fps=Fraction(25)), 60)
    check_length(info_of(64, 64, is_still=True), 0.01)
    with pytest.raises(MediaLimitError, match="at most 60 s"):
        check_length(info_of(64, 64, num_frames=1600, fps=Fraction(25)), 60)
