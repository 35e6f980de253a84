"""The watermark's pattern, a grid of cells relative to the frame, and its addition to the luma of frames."""

from __future__ import annotations

import hashlib
from fractions import Fraction
from functools import cache
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from lipwright.media.probe import VideoInfo
from lipwright.media.watermark.code import NUM_CODED, encode
from lipwright.media.watermark.region import WHOLE_FRAME, Region
from lipwright.media.yuv_frame import YuvFrame

NUM_CELLS: Final = 32
"""Cells along each side of a frame of any size and shape."""
HALF_PERIOD_SECONDS: Final = 2.0
"""The pattern changes its sign at multiples of this time, so that a static picture cancels out in the detector."""
PUBLIC_KEY: Final = b"lipwright-watermark-1"
"""Key of all marked videos: anyone can detect the watermark."""
NUM_SLOTS: Final = 8
"""Sets of chips for the bits. The identifier selects one, so that two watermarks in one video can both be read."""
_STEEPNESS: Final = 1.5
_NUM_SYNC: Final = NUM_CELLS**2 - 2 * NUM_CODED  # every coded bit has two cells


class Pattern:
    """Chips of all cells, derived from a key by SHAKE-256.

    Args:
        key: Another key makes a watermark that is invisible to the public detector.
    """

    def __init__(self, key: bytes = PUBLIC_KEY) -> None:
        order = np.argsort(_words(key + b" order"), kind="stable")
        self._sync, data = order[:_NUM_SYNC], order[_NUM_SYNC:]
        self._data = data.reshape(2, NUM_CODED)
        self._chips = [_signs(key + b" chips %d" % slot) for slot in range(NUM_SLOTS)]

    def cells(self, identifier: bytes) -> NDArray[np.float32]:
        """Return the signs of the cells for an identifier, (NUM_CELLS, NUM_CELLS)."""
        signs = self.sync_cells().reshape(-1)
        signs[self._data] = self._chips[slot_of(identifier)][self._data] * (1 - 2.0 * encode(identifier))
        return signs.reshape(NUM_CELLS, NUM_CELLS)

    def sync_cells(self) -> NDArray[np.float32]:
        """Return the same with zeros for the cells that depend on the identifier."""
        signs = np.zeros(NUM_CELLS**2, np.float32)
        signs[self._sync] = self._chips[0][self._sync]
        return signs.reshape(NUM_CELLS, NUM_CELLS)

    def soft_bits(self, cells: NDArray[np.float32], slot: int) -> NDArray[np.float32]:
        """Return the (B, NUM_CODED) soft bits of (B, NUM_CELLS, NUM_CELLS) measured cells."""
        despread = cells.reshape(len(cells), -1) * self._chips[slot]
        bits: NDArray[np.float32] = despread[:, self._data].sum(axis=1)
        return bits


@cache
def public_pattern() -> Pattern:
    """Return the pattern of all marked videos."""
    return Pattern()


def slot_of(identifier: bytes) -> int:
    """Return which chips carry the bits of an identifier."""
    return identifier[0] % NUM_SLOTS


def draw_cells(cells: NDArray[np.float32], width: int, height: int) -> NDArray[np.float32]:
    """Return the cells as a (height, width) picture from -1 to 1 with smooth edges."""
    smooth = cv2.resize(cells, (width, height), interpolation=cv2.INTER_LINEAR)
    return np.asarray(np.clip(smooth * _STEEPNESS, -1, 1), np.float32)


def _signs(seed: bytes) -> NDArray[np.float32]:
    return np.where(_words(seed) & 1, np.float32(1), np.float32(-1))


def _words(seed: bytes) -> NDArray[np.uint64]:
    words: NDArray[np.uint64] = np.frombuffer(hashlib.shake_256(seed).digest(8 * NUM_CELLS**2), "<u8")
    return words.astype(np.uint64)


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
        identifier: What the watermark carries, `lipwright.media.watermark.code.IDENTIFIER_BYTES` bytes.
        first_frame: Number of the first frame within the whole video.
        flat_levels: Amplitude where the picture is flat, at most MAX_LEVELS.
        region: The part of the frames that is marked.
    """

    def __init__(
        self,
        info: VideoInfo,
        identifier: bytes,
        first_frame: int = 0,
        flat_levels: float = FLAT_LEVELS,
        region: Region = WHOLE_FRAME,
    ) -> None:
        self._slices = region.slices(info.width, info.height)
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
        luma = planes.y[self._slices]
        if drawn_for != self._drawn_for:
            self._refresh(luma, drawn_for[1])
            self._drawn_for = drawn_for
        cv2.add(luma, self._brighter, dst=luma)
        cv2.subtract(luma, self._darker, dst=luma)

    def cover(self, alpha: NDArray[np.uint8]) -> None:
        """Leave the alpha unchanged: the watermark is where the picture is."""

    def _refresh(self, luma: NDArray[np.uint8], sign: float) -> None:
        # Whole levels without dithering: finer detail would cost the encoder bits, and the detector averages it away.
        change = self._cells * (_amplitude(luma, self._flat_levels) * np.float32(sign * (1 << _LEVEL_BITS)))
        scaled = cv2.resize(np.rint(change + _NO_CHANGE).astype(np.uint8), luma.shape[::-1])  # bilinear
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
