"""Where in a speech file somebody speaks, is about to, or pauses.

All of it is told by loudness beside that of the file's speech (`models.speech.level.measure_level`): any block of rows
is that of a run over the whole file.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.speech.level import SpeechLevel, row_levels

# Speech is louder than -45 dBFS, or louder than -75 dBFS and within 25 dB of the file's speech. The gate is held for
# 240 ms after it, for closures inside a word, opens 480 ms ahead of it, as lips part and breath is drawn before a
# talker is heard, and fades for 80 ms. How far the mouth is open in that time is left to the network; ahead of speech
# its lips only part (`speech_to_mouth`).
_GATE_DB, _GATE_FLOOR_DB, _SPEECH_RANGE_DB = -45.0, -75.0, 25.0
GATE_AHEAD_ROWS: Final = 24
_HOLD_ROWS, GATE_FADE_ROWS = 12, 4
# So long before it lips wait for the next word. Of nine films in the wild r is .728 with 24, .730 with 30, .731 with 36
# (means of predicted and tracked openings; .724 without).
_WAIT_ROWS = 36
_SURROUNDING_ROWS = max(GATE_AHEAD_ROWS, _WAIT_ROWS, _HOLD_ROWS) + GATE_FADE_ROWS


@dataclass(frozen=True)
class SpeechActivity:
    """Where somebody speaks, in N rows of 20 ms.

    Attributes:
        gate: (N,) float32: 1 in speech and near it, 0 in silence, between them while fading.
        is_heard: (N,) bool: speech is heard or was just heard; where the gate is open without, it is about to be.
        before_speech: (N,) float32: 1 where no sound was within 25 dB of the file's speech for 240 ms, and one will be
            within 720 ms; 0 elsewhere; between them while fading. It tells pauses in a noisy room too, where the gate
            stays open.
    """

    gate: NDArray[np.float32]
    is_heard: NDArray[np.bool_]
    before_speech: NDArray[np.float32]


def speech_activity(samples: NDArray[np.int16], level: SpeechLevel, first: int, stop: int) -> SpeechActivity:
    """Says where somebody speaks in rows [first, stop).

    Args:
        samples: (N,) int16, the whole file.
        level: What `measure_level` said of it.
        first: First row of the range, 20 ms a row.
        stop: Row after its last, at most `level.num_rows`.
    """
    start, end = max(0, first - _SURROUNDING_ROWS), min(level.num_rows, stop + _SURROUNDING_ROWS)
    decibels = row_levels(samples, start, end)
    near_speech_db = level.speech_db - _SPEECH_RANGE_DB
    is_speech = decibels > max(_GATE_FLOOR_DB, min(_GATE_DB, near_speech_db))
    is_loud = decibels > near_speech_db
    rows = slice(first - start, stop - start)
    return SpeechActivity(
        gate=_fade(_spread(is_speech, _HOLD_ROWS, GATE_AHEAD_ROWS))[rows],
        is_heard=_fade(_spread(is_speech, _HOLD_ROWS, 0))[rows] > 0.5,
        before_speech=_fade(_spread(is_loud, 0, _WAIT_ROWS) & ~_spread(is_loud, _HOLD_ROWS, 0))[rows],
    )


def _spread(is_on: NDArray[np.bool_], behind: int, ahead: int) -> NDArray[np.bool_]:
    """(N,) whether `is_on` was so in the last `behind` rows or will be in the next `ahead` ones."""
    padded = np.pad(is_on.astype(np.float64), (behind, ahead))
    near: NDArray[np.bool_] = np.convolve(padded, np.ones(behind + 1 + ahead), "valid") > 0.5
    return near


def _fade(is_on: NDArray[np.bool_]) -> NDArray[np.float32]:
    """(N,) from 0 to 1 where `is_on` changes."""
    fade = np.hanning(2 * GATE_FADE_ROWS + 1)
    share = np.convolve(np.pad(is_on.astype(np.float64), GATE_FADE_ROWS, mode="edge"), fade / fade.sum(), "valid")
    return share.clip(0, 1).astype(np.float32)
