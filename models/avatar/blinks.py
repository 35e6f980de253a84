"""When a portrait blinks, and how far its lids are closed.

People blink 17 times a minute at rest and 26 times when they talk (Bentivoglio et al., "Analysis of blink rate patterns
in normal subjects", Movement Disorders 12, 1997), most often at the ends of phrases.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.geometry.arrays import smooth_step
from models.speech.level import ROWS_PER_SECOND
from models.speech.prosody import Prosody

# Seconds. Lids close faster than they open (VanderWerf et al., "Eyelid movements", J. Neurophysiol. 89, 2003).
_CLOSING, _CLOSED, _OPENING = 0.11, 0.04, 0.19
_CELL: Final = 2.8  # seconds, each with one blink or, occasionally, none
_LIKELY: Final = 0.8
_AT_PHRASE_END: Final = 0.65  # probability
_DELAY: Final = (0.05, 0.25)  # seconds after it
_APART: Final = 0.7  # seconds between two blinks


def blinks(seed: int, seconds: NDArray[np.float64], fps: float, prosody: Prosody) -> NDArray[np.float64]:
    """Return the closure of the lids, 0 to 1. Every blink has a fully closed frame at any frame rate.

    Args:
        seed: Of the portrait.
        seconds: (T,) ascending times of the frames.
        fps: Frames per second.
        prosody: Of the speech in these frames.
    """
    cells = range(max(0, int(seconds[0] / _CELL) - 1), int(seconds[-1] / _CELL) + 2)
    regular = [start for cell in cells if (start := _in_cell(seed, cell)) is not None]
    at_ends = [start for row in prosody.ends if (start := _after_phrase(seed, int(row))) is not None]
    # The next cell is known, too, so that a blink after a phrase does not depend on where a block ends.
    starts = [*regular, *(start for start in at_ends if all(abs(start - other) > _APART for other in regular))]
    closing = np.zeros(len(seconds))
    for start in starts:
        shut = round((start + _CLOSING) * fps) / fps
        fall = smooth_step((seconds - shut + _CLOSING) / _CLOSING)
        rise = smooth_step((seconds - shut - _CLOSED) / _OPENING)
        closing = np.maximum(closing, fall * (1 - rise))
    return closing


def _in_cell(seed: int, cell: int) -> float | None:
    """Return when the blink of a cell starts; None if there is none. Blinks of two cells are `_APART`."""
    rng = np.random.default_rng([seed, 3, cell])
    place = rng.uniform(0, _CELL - _APART)
    return None if rng.random() > _LIKELY else cell * _CELL + place + _APART / 2


def _after_phrase(seed: int, row: int) -> float | None:
    """Return when the blink after a phrase that ends with a row starts; None if there is none."""
    rng = np.random.default_rng([seed, 4, max(row, 0)])
    delay = rng.uniform(*_DELAY)
    return None if rng.random() > _AT_PHRASE_END else row / ROWS_PER_SECOND + delay
