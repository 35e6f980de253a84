"""What MuseTalk hears of a stretch of speech, and which rows of it an output frame is driven by."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.speech.level import ROWS_PER_SECOND

ROWS_PER_FRAME: Final = 10
"""Rows that drive one frame: those of five frames of 25 a second (musetalk/utils/audio_processor.py)."""

# The rows begin this far ahead of the frame: 80 ms, two frames at 25 a second. The published script pads by
# 2 * ceil(50 / fps) rows: 4 from 25 to 49 frames a second, yet 6 at 24 and 2 at 60, which moves the speech by 40 ms
# against the training, all of which is at 25.
_ROWS_AHEAD = 4


@dataclass(frozen=True)
class SpeechRows:
    """Rows [first_row, first_row + R) of a speech file, 20 ms apart, and the gate of the T frames they are for.

    Attributes:
        first_row: Number of row 0; row k of the file stands for the time k x 20 ms. Negative: before the file.
        rows: (R, L, C) float32 hidden states: L of them with C channels; zeros before the file.
        first_frame: Output frame of row 0 of `gate`.
        gate: (T,) float32: 1 in speech, 0 in silence, between them while fading.
    """

    first_row: int
    rows: NDArray[np.float32]
    first_frame: int
    gate: NDArray[np.float32]


def first_rows(fps: Fraction, first: int, num: int) -> NDArray[np.int64]:
    """Return the (num,) first rows of the frames from `first` on.

    The published script rounds the frame rate to a whole number first, so that 29.97 frames a second are heard as 29:
    after ten seconds the mouth is a third of a second early. Here the rate is exact.
    """
    numbers = np.arange(first, first + num, dtype=np.int64)
    return numbers * ROWS_PER_SECOND * fps.denominator // fps.numerator - _ROWS_AHEAD
