"""Rounded lips: how far they are rounded in a mouth shape, and where they meet."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.geometry.arrays import smooth_step
from models.geometry.head_frame import INNER_LOWER, INNER_UPPER, MIDDLE_LOWER, MIDDLE_UPPER
from models.mouth.lip_model import lip_gaps
from models.mouth.shape import CHANNELS

_WIDTH: Final = CHANNELS.index("width")
# Narrowing of fully rounded lips, in eye distances: twice the standard deviation of the width in speech.
_ROUNDED: Final = 0.045
# Rounded lips meet from here on to either side, in half-widths of the mouth, and keep their gap up to there. Landmarks
# do not show it, but pictures do: in small /u/ and /w/ of three speakers the dark covers the middle half of the mouth.
_PARTED: Final = 0.2
_ROUND: Final = 0.8
_ACROSS: Final = np.abs(np.linspace(-1, 1, len(INNER_UPPER)))
_LEFT: Final = 1 - smooth_step((_ACROSS - _PARTED) / (_ROUND - _PARTED))  # (11,) share of the gap


def rounding(shape: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return (T,) how far the lips of (T, 8) mouth shapes are rounded, 0 to 1."""
    return np.asarray((-shape[:, _WIDTH] / _ROUNDED).clip(0, 1), np.float32)


def round_lips(faces: NDArray[np.float32], rounded: NDArray[np.float32]) -> NDArray[np.float32]:
    """Bring rounded lips together beside the middle of the mouth, whose gap stays.

    Args:
        faces: (T, 468, 3) points in the head frame.
        rounded: (T,) how far the lips are rounded, 0 to 1.

    Returns:
        (T, 468, 3) float32 points; the middle lines of the lips follow by half.
    """
    moved = np.array(faces, np.float32)
    closing = rounded[:, None] * (1 - _LEFT) * lip_gaps(moved).clip(0) / 2  # (T, 11) of each lip
    for inner, middle, down in ((INNER_UPPER, MIDDLE_UPPER, 1), (INNER_LOWER, MIDDLE_LOWER, -1)):
        moved[:, list(inner), 1] -= down * closing
        moved[:, list(middle), 1] -= down * closing / 2
    return moved
