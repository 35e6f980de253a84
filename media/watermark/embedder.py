"""Adds the watermark to the luma of frames."""

from __future__ import annotations

from fractions import Fraction
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from media.probe import VideoInfo
from media.watermark.pattern import HALF_PERIOD_SECONDS, draw_cells, public_pattern
from media.yuv_frame import YuvFrame

MAX_LEVELS: Final = 2
"""The largest change of a luma sample."""
FLAT_LEVELS: Final = 1.0
"""Amplitude where the picture is flat. The just noticeable difference there is 3 levels or more (Chou and Li 1995)."""
_FLAT_DEVIATION, _BUSY_DEVIATION = 2.0, 12.0
"""Local standard deviations, in levels, from which the amplitude rises, and at which it reaches MAX_LEVELS."""
_FADE_SECONDS: Final = 0.2
"""Time in which the sign changes, so that it is not seen as a jump."""
_REFRESH_SECONDS: Final = Fraction(1, 2)
"""How long one measurement of the local activity is used."""
_GRID: Final = 128
"""Side of the grid on which the amplitude is computed."""
_SAMPLES: Final = 160
"""About as many samples along the shorter side are enough to measure activity."""
_LEVEL_BITS: Final = 5
"""Fractional bits per level in the interpolated 8-bit changes."""
_NO_CHANGE: Final = 128
_HALF_LEVEL: Final = 1 << _LEVEL_BITS >> 1


class InvisibleWatermark:
    """Marks consecutive frames of one video.

    Args:
        info: Size and rate of the frames.
        identifier: What the watermark carries, `media.watermark.code.IDENTIFIER_BYTES` bytes.
        first_frame: Number of the first frame within the whole video.
        flat_levels: Amplitude where the picture is flat, at most MAX_LEVELS.
    """

    def __init__(
        self, info: VideoInfo, identifier: bytes, first_frame: int = 0, flat_levels: float = FLAT_LEVELS
    ) -> None:
        self._size = (info.width, info.height)
        self._fps = info.fps
        self._frame = first_frame
        self._flat_levels = flat_levels
        self._cells = draw_cells(public_pattern().cells(identifier), _GRID, _GRID)
        self._drawn_for: tuple[int, float] | None = None
        self._brighter = self._darker = np.empty((0, 0), np.uint8)

    def draw(self, planes: YuvFrame) -> None:
        """Mark the next frame: change the writable luma plane, in place, by at most MAX_LEVELS."""
        seconds = self._frame / self._fps
        self._frame += 1
        drawn_for = (int(seconds / _REFRESH_SECONDS), sign_at(float(seconds)))
        if drawn_for != self._drawn_for:
            self._refresh(planes.y, drawn_for[1])
            self._drawn_for = drawn_for
        cv2.add(planes.y, self._brighter, dst=planes.y)
        cv2.subtract(planes.y, self._darker, dst=planes.y)

    def cover(self, alpha: NDArray[np.uint8]) -> None:
        """Leave the alpha unchanged: the watermark is where the picture is."""

    def _refresh(self, luma: NDArray[np.uint8], sign: float) -> None:
        # Whole levels without dithering: finer detail would cost the encoder bits, and the detector averages it away.
        change = self._cells * (_amplitude(luma, self._flat_levels) * np.float32(sign * (1 << _LEVEL_BITS)))
        scaled = cv2.resize(np.rint(change + _NO_CHANGE).astype(np.uint8), self._size)  # bilinear
        # Rounded to the nearest level; differences below 0 saturate to 0.
        brighter = cv2.subtract(scaled, _NO_CHANGE - _HALF_LEVEL)  # type: ignore[call-overload]
        darker = cv2.subtract(_NO_CHANGE + _HALF_LEVEL, scaled)  # type: ignore[call-overload]
        self._brighter, self._darker = brighter >> _LEVEL_BITS, darker >> _LEVEL_BITS


def sign_at(seconds: float) -> float:
    """Return the factor of the pattern at a time, from -1 to 1."""
    halves = seconds / HALF_PERIOD_SECONDS
    sign = 1 - 2 * (int(halves) % 2)
    to_change = abs(halves - round(halves)) * HALF_PERIOD_SECONDS if halves >= 0.5 else HALF_PERIOD_SECONDS
    return sign * min(1.0, to_change / (_FADE_SECONDS / 2))


def _amplitude(luma: NDArray[np.uint8], flat_levels: float) -> NDArray[np.float32]:
    """Return the amplitude in levels, (_GRID, _GRID): more where the picture is busy and hides it."""
    step = max(1, min(luma.shape) // _SAMPLES)
    sampled = luma[::step, ::step].astype(np.float32)
    mean = cv2.blur(sampled, (7, 7))
    variance = cv2.blur(sampled * sampled, (7, 7)) - mean * mean
    deviation = np.sqrt(np.maximum(cv2.resize(variance, (_GRID, _GRID)), 0))
    busy = np.clip((deviation - _FLAT_DEVIATION) / (_BUSY_DEVIATION - _FLAT_DEVIATION), 0, 1)
    return np.asarray(flat_levels + (MAX_LEVELS - flat_levels) * busy, np.float32)
