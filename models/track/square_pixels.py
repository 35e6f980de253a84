"""Converts frames with non-square pixels for the networks, which do not recognise a squeezed face."""

from __future__ import annotations

from dataclasses import replace
from typing import Final, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from lipwright.media.probe import VideoInfo
from lipwright.media.yuv_frame import YuvFrame
from models.face.choice import FaceChoice

# Pixels of real footage are within these; a file may claim any value, and regions grow with it.
_BOUNDS: Final = (0.5, 2.0)


def pixel_aspect(info: VideoInfo) -> float:
    """Width of a source's pixel over its height; 1 for stills, because idle motion supports square pixels only."""
    return 1.0 if info.is_still else float(np.clip(float(info.sample_aspect_ratio), *_BOUNDS))


class SquarePixels(NamedTuple):
    """Converts between the frames of a source and frames with square pixels."""

    stretch: float = 1.0  # factor by which the source's frames are widened

    def frame(self, frame: YuvFrame) -> YuvFrame:
        """Return a frame with square pixels and even width; the frame itself if its pixels are square already."""
        if self.stretch == 1:
            return frame
        width = self._width(frame.y.shape[1])
        return YuvFrame(*(_widen(plane, width // step) for plane, step in zip(frame, (1, 2, 2), strict=True)))

    def choice(self, choice: FaceChoice, width: int) -> FaceChoice:
        """Convert a choice made for frames of `width` to frames with square pixels."""
        scale = self._width(width) / width
        if choice.kind in ("point", "box"):
            return replace(choice, numbers=_x_scaled(choice.numbers, scale))
        if choice.first_seen:
            return replace(choice, first_seen=(choice.first_seen[0], *_x_scaled(choice.first_seen[1:], scale)))
        return choice

    def points(self, points: NDArray[np.float32], width: int) -> NDArray[np.float32]:
        """Convert (..., 3) points from frames of `width` to frames with square pixels; depth is unchanged."""
        square = points.copy()
        square[..., 0] = (points[..., 0] + 0.5) * (self._width(width) / width) - 0.5
        return square

    def points_back(self, points: NDArray[np.float32], width: int) -> NDArray[np.float32]:
        """Convert (..., 3) points from frames with square pixels to pixels of frames of `width`; depth is unchanged."""
        scale = self._width(width) / width
        back = points.copy()
        back[..., 0] = (points[..., 0] + 0.5) / scale - 0.5  # the centre of the first pixel is at 0
        return back

    def _width(self, width: int) -> int:
        return width if self.stretch == 1 else max(2, round(width * self.stretch / 2) * 2)


def _widen(plane: NDArray[np.uint8], width: int) -> NDArray[np.uint8]:
    way = cv2.INTER_LINEAR if width >= plane.shape[1] else cv2.INTER_AREA
    return np.asarray(cv2.resize(plane, (width, plane.shape[0]), interpolation=way), np.uint8)


def _x_scaled(numbers: tuple[float, ...], scale: float) -> tuple[float, ...]:
    """Scale x of x, y, x, y, ..."""
    return tuple(value * (scale if number % 2 == 0 else 1.0) for number, value in enumerate(numbers))
