"""Voice activity detection: where somebody speaks, or is about to.

It depends only on the level of a row relative to the speech level of the file (`models.speech.level.measure_level`), so
a block of rows gives the same result as the whole file.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.speech.level import SpeechLevel, row_levels

# Speech is louder than -45 dBFS, or louder than -75 dBFS and within 25 dB of the file's speech level. The gate stays
# open for 240 ms after speech (closures inside a word), opens 480 ms ahead of it (speakers part their lips and breathe
# in first), and fades over 80 ms. The network decides how far the mouth opens in that time; ahead of speech the lips
# only part (`speech_to_mouth`).
_GATE_DB, _GATE_FLOOR_DB, _SPEECH_RANGE_DB = -45.0, -75.0, 25.0
_AHEAD_ROWS, _HOLD_ROWS, _FADE_ROWS = 24, 12, 4
_SURROUNDING_ROWS = max(_AHEAD_ROWS, _HOLD_ROWS) + _FADE_ROWS


@dataclass(frozen=True)
class SpeechActivity:
    """Voice activity in N rows of 20 ms.

    Attributes:
        gate: (N,) float32: 1 in and near speech, 0 in silence, in between while fading.
        is_heard: (N,) bool: speech is audible or just was. Where the gate is open without it, speech is about to start.
    """

    gate: NDArray[np.float32]
    is_heard: NDArray[np.bool_]


def speech_activity(samples: NDArray[np.int16], level: SpeechLevel, first: int, stop: int) -> SpeechActivity:
    """Detect voice activity in rows [first, stop).

    Args:
        samples: (N,) int16, the whole file.
        level: Result of `measure_level` for this file.
        first: First row, 20 ms per row.
        stop: Row after the last, at most `level.num_rows`.
    """
    start, end = max(0, first - _SURROUNDING_ROWS), min(level.num_rows, stop + _SURROUNDING_ROWS)
    speaks = is_speech(samples, level, start, end)
    rows = slice(first - start, stop - start)
    return SpeechActivity(
        gate=fade(spread(speaks, _HOLD_ROWS, _AHEAD_ROWS))[rows],
        is_heard=fade(spread(speaks, _HOLD_ROWS, 0))[rows] > 0.5,
    )


def is_speech(samples: NDArray[np.int16], level: SpeechLevel, first: int, stop: int) -> NDArray[np.bool_]:
    """Return whether each of the rows [first, stop) is loud enough for speech; there is silence outside the file."""
    decibels = row_levels(samples, first, stop)
    return np.asarray(decibels > max(_GATE_FLOOR_DB, min(_GATE_DB, level.speech_db - _SPEECH_RANGE_DB)))


def spread(is_on: NDArray[np.bool_], behind: int, ahead: int) -> NDArray[np.bool_]:
    """Return (N,) bool: whether `is_on` was true in the last `behind` rows or will be in the next `ahead` rows."""
    padded = np.pad(is_on.astype(np.float64), (behind, ahead))
    near: NDArray[np.bool_] = np.convolve(padded, np.ones(behind + 1 + ahead), "valid") > 0.5
    return near


def fade(is_on: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Return (N,) float32: 1 where `is_on`, 0 elsewhere, with an 80 ms crossfade around each change."""
    weights = np.hanning(2 * _FADE_ROWS + 1)
    share = np.convolve(np.pad(is_on.astype(np.float64), _FADE_ROWS, mode="edge"), weights / weights.sum(), "valid")
    return share.clip(0, 1).astype(np.float32)
