"""The watermark's pattern: a grid of cells relative to the frame, some for synchronisation, the others for bits."""

from __future__ import annotations

import hashlib
from functools import cache
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from media.watermark.code import NUM_CODED, encode

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
