"""Frames whose pixels are not square, as the networks have to see them: a squeezed face is another face to them."""

from __future__ import annotations

from dataclasses import replace
from typing import Final, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from media.probe import VideoInfo
from media.yuv_frame import YuvFrame
from models.face.choice import FaceChoice

# Pixels of real footage are between these; a file may claim any, and regions grow with it.
_BOUNDS: Final = (0.5, 2.0)


def pixel_aspect(info: VideoInfo) -> float:
    """Width of a source's pixel over its height. A still is moved by what knows square pixels only: 1."""
    return 1.0 if info.is_still else float(np.clip(float(info.sample_aspect_ratio), *_BOUNDS))


class SquarePixels(NamedTuple):
    """Between the frames of a source and the same with square pixels.

    Attributes:
        stretch: What the first are widened by.
    """

    stretch: float = 1.0

    def frame(self, frame: YuvFrame) -> YuvFrame:
        """Return a frame with square pixels; of even width, and itself where its pixels are square already."""
        if self.stretch == 1:
            return frame
        width = self._width(frame.y.shape[1])
        return YuvFrame(*(_widened(plane, width // step) for plane, step in zip(frame, (1, 2, 2), strict=True)))

    def choice(self, choice: FaceChoice, width: int) -> FaceChoice:
        """Return a choice for frames with square pixels that was made for ones of `width`."""
        if choice.kind not in ("point", "box"):
            return choice
        scale = self._width(width) / width
        xy = (scale if number % 2 == 0 else 1.0 for number in range(len(choice.numbers)))
        return replace(choice, numbers=tuple(value * each for value, each in zip(choice.numbers, xy, strict=True)))

    def points_back(self, points: NDArray[np.float32], width: int) -> NDArray[np.float32]:
        """Return (..., 3) points of frames with square pixels as pixels of frames of `width`; depth stays as it is."""
        scale = self._width(width) / width
        back = points.copy()
        back[..., 0] = (points[..., 0] + 0.5) / scale - 0.5  # the centre of the first pixel stands at 0
        return back

    def _width(self, width: int) -> int:
        return width if self.stretch == 1 else max(2, round(width * self.stretch / 2) * 2)


def _widened(plane: NDArray[np.uint8], width: int) -> NDArray[np.uint8]:
    way = cv2.INTER_LINEAR if width >= plane.shape[1] else cv2.INTER_AREA
    return np.asarray(cv2.resize(plane, (width, plane.shape[0]), interpolation=way), np.uint8)
