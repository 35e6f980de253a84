"""A matte as a video: what is written is read again, in any order and across pieces."""

from __future__ import annotations

from contextlib import closing
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from config import MediaLimits
from errors import StoredFileError
from media.matte.matte_video import MatteFrames, MatteWriter, join_mattes, matte_info
from media.probe import ColourTags, VideoInfo
from media.reader import FrameReader

INFO = matte_info(
    VideoInfo(96, 64, Fraction(25), 12, 0.48, 90, False, True, ColourTags(1, False, 1, 1), "hevc", "yuv420p", True)
)


def _alpha(number: int) -> NDArray[np.uint8]:
    """A soft disc that moves two pixels a frame."""
    plane = np.zeros((64, 96), np.uint8)
    cv2.circle(plane, (30 + 2 * number, 32), 18, 255, -1)
    return np.asarray(cv2.GaussianBlur(plane, (0, 0), 2), np.uint8)


def _piece(start: int, stop: int) -> bytes:
    writer = MatteWriter(INFO)
    for number in range(start, stop):
        writer.write(_alpha(number))
    return writer.finish()


def test_matte_frames_are_read_in_any_order(tmp_path: Path) -> None:
    path = tmp_path / "matte.mp4"
    join_mattes([_piece(0, 5), _piece(5, 12)], path, INFO.fps, 12)
    with closing(MatteFrames(FrameReader(path, INFO, 2**20, limits=MediaLimits()))) as frames:
        order = [0, 1, 4, 5, 11, 3, 8]
        for number, frame in zip(order, frames.read(order), strict=True):
            expected = _alpha(number)
            assert frame.y.shape == (64, 96) and not frame.y.flags.writeable
            error = np.abs(frame.y.astype(int) - expected)
            assert error.mean() < 1 and error.max() < 24
            assert (frame.y[expected == 0] == 0).mean() > 0.98 and (frame.y[expected == 255] == 255).mean() > 0.98


def test_join_mattes_missing_piece_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoredFileError, match="Expected 12 frames of a matte, found 5"):
        join_mattes([_piece(0, 5)], tmp_path / "matte.mp4", INFO.fps, 12)
