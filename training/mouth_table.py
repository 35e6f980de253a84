"""Phones with their times -> mouth shapes, for synthetic speech, which has no mouth.

Targets of the phones that occur in the GRID corpus are means measured there; the others are set by phonetic analogy.
Between phones the targets blend by dominance (Cohen and Massaro, "Modeling coarticulation in synthetic visual speech",
1993): a phone that needs a channel holds it against its neighbours.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.mouth.shape import NUM_CHANNELS
from models.speech.level import ROWS_PER_SECOND

Floats = NDArray[np.float64]
Phone = tuple[str, float, float]  # symbol, start and end in seconds

PAUSE: Final = "_"
_LIPS_TOUCH: Final = "p"

# Thousandths of the eye distance, offset from rest, in the order of `models.mouth.shape.CHANNELS`.
_TARGETS: Final = {
    "a": (125, 118, -15, 6, 112, 88, 0, -33),
    "ɑ": (125, 120, -30, 4, 115, 90, -2, -38),
    "æ": (112, 106, -14, 7, 100, 78, 1, -32),
    "ɛ": (120, 114, -11, 11, 106, 86, 2, -32),
    "e": (105, 100, 4, 13, 92, 76, 5, -26),
    "i": (82, 78, 0, 14, 68, 54, 2, -22),
    "ɪ": (78, 80, -10, 8, 72, 63, 0, -24),
    "ɔ": (70, 80, -60, -6, 78, 66, -5, -28),
    "o": (50, 68, -62, -9, 68, 56, -6, -27),
    "u": (30, 58, -60, -12, 58, 46, -6, -28),
    "ʊ": (48, 62, -48, -8, 62, 52, -5, -26),
    "ʌ": (95, 98, -30, 4, 90, 72, -2, -30),
    "ə": (70, 76, -25, 2, 70, 58, -1, -24),
    "ɜ": (60, 70, -40, 0, 66, 56, -3, -26),
    "y": (35, 58, -55, -10, 55, 42, -6, -24),
    "ø": (55, 70, -55, -6, 66, 52, -5, -26),
    "œ": (75, 85, -48, -2, 80, 64, -4, -28),
    "ɨ": (65, 68, -12, 6, 62, 50, 0, -22),
    "p": (-4, 14, -22, -20, 28, 40, 2, -13),
    "f": (12, 24, -18, -2, 24, 48, 5, 0),
    "w": (25, 52, -60, -14, 54, 48, -7, -30),
    "ʃ": (75, 92, -38, 18, 74, 56, -3, -24),
    "s": (70, 72, -2, 18, 56, 44, 3, -13),
    "t": (70, 74, -12, 4, 68, 54, 0, -22),
    "θ": (45, 56, -28, 3, 46, 45, -2, -18),
    "k": (75, 76, -18, 2, 70, 56, 0, -24),
    "r": (52, 64, -45, -4, 62, 54, -4, -26),
    "j": (70, 72, -10, 8, 64, 50, 0, -24),
    "h": (75, 76, -18, 2, 70, 56, 0, -24),
    PAUSE: (0, 0, 0, 0, 0, 0, 0, 0),
}
_ROUNDED: Final = (1, 1, 1.8, 1, 1, 1, 1.8, 1)
_EVEN: Final = (1.0,) * NUM_CHANNELS
_DOMINANCE: Final = {
    **dict.fromkeys("ɔouʊyøœ", _ROUNDED),
    "p": (6, 3, 0.4, 2, 2, 0.6, 0.4, 0.4),
    "f": (3, 3, 0.6, 2, 2.5, 1, 0.6, 1.5),
    "w": (2, 1.5, 3, 1.5, 1, 1, 3, 1),
    "s": (0.8, 0.8, 0.5, 1, 0.9, 1, 0.5, 0.6),
    "ʃ": (0.9, 1, 1.3, 1.3, 1, 1.1, 1.3, 0.6),
    "r": (0.6, 0.6, 1, 0.6, 0.6, 0.6, 1, 0.6),
    "t": (0.3,) * NUM_CHANNELS,
    "θ": (0.6,) * NUM_CHANNELS,
    "k": (0.2,) * NUM_CHANNELS,
    "j": (0.5,) * NUM_CHANNELS,
    "h": (0.08,) * NUM_CHANNELS,
    PAUSE: (0.7,) * NUM_CHANNELS,
}
# Seconds over which the dominance of a phone falls off before and after it.
_REACH: Final = {"p": 0.035, "f": 0.04, PAUSE: 0.08, "w": 0.06, "ʃ": 0.06}
_DEFAULT_REACH, _FALL, _OVERLAP = 0.05, 1.3, 0.15
_SMOOTHING: Final = np.array([0.25, 0.5, 0.25])


def shape_phones(phones: list[Phone], num_rows: int) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Computes the mouth of an utterance.

    Args:
        phones: The phones, in the symbols of the table.
        num_rows: Length of the result at 50 rows a second.

    Returns:
        (num_rows, 8) offsets from rest in eye distances, and (num_rows,) whether the lips touch for p, b or m.
    """
    time = np.arange(num_rows) / ROWS_PER_SECOND
    total, weight = np.zeros((num_rows, NUM_CHANNELS)), np.full((num_rows, NUM_CHANNELS), 1e-6)
    touch = np.zeros(num_rows, bool)
    for symbol, start, end in phones:
        margin = _OVERLAP * (end - start)
        outside = np.maximum(0, np.maximum(start + margin - time, time - (end - margin)))
        fall = np.exp(-((outside / _REACH.get(symbol, _DEFAULT_REACH)) ** _FALL))
        dominance = np.outer(fall, _DOMINANCE.get(symbol, _EVEN))
        total += dominance * np.array(_TARGETS[symbol]) / 1000
        weight += dominance
        if symbol == _LIPS_TOUCH:
            touch |= (time >= start) & (time <= end)
    blend: Floats = total / weight
    smooth = [np.convolve(np.pad(channel, 1, mode="edge"), _SMOOTHING, "valid") for channel in blend.T]
    return np.stack(smooth, 1).astype(np.float32), touch
