"""Where speech is stressed: what a head nods with.

Listeners tell prominent syllables by loudness more than by pitch (Kochanski, Grabe, Coleman and Rosner, "Loudness
predicts prominence: fundamental frequency lends little", JASA 118, 2005), so loudness alone is looked at. A syllable
counts by how far it is louder than the last second of speech; each begins one pulse, and pulses run together.

What a frame gets depends on the sound from 1.5 s before it until 0.24 s behind it, and on how loud the file's speech
is: a file gives the same curve in one piece and in many. A live stream knows as much of the sound, and of the level
what it has heard so far: its curve differs by .06 at most (six recordings).
"""

from __future__ import annotations

from math import ceil, floor
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from models.geometry.smooth_step import smooth_step
from models.speech.level import ROWS_PER_SECOND, SpeechLevel, open_speech, row_levels

if TYPE_CHECKING:
    from models.speech.stream import SpeechWindow

# Stevens's power law: loudness in sones grows with the power of the sound to .3 ("The measurement of loudness", JASA
# 27, 1955).
_SONES: Final = 0.3
_SYLLABLE_ROWS: Final = 7  # a window of Hann, its ends zero, over which loudness is taken: 100 ms
_USUAL_ROWS: Final = 50  # a second, with whose speech a syllable is compared
# A syllable is the loudest of what is near it: no second one within .3 s, which is faster than speech is stressed.
_BEFORE_ROWS, _BEHIND_ROWS = 15, 6
# How many times as loud a syllable is. Of 249 in 23 recordings (GRID, films in the wild, synthetic voices in seven
# languages) 13 % are less than 1.05, 29 % more than 1.4 times as loud.
_UNSTRESSED, _STRESSED = 1.05, 1.4
_QUIET_DB: Final = 12.0  # below loud speech: in noise and murmur, what is heard is compared with this
# Seconds. A nod with the beat is deepest while the stressed syllable sounds (Alexanderson, House and Beskow, "Aspects
# of co-occurring syllables and head nods in spontaneous dialogue", AVSP 2013), begins with it and comes up slowly.
_AHEAD, _DOWN, _UP = 0.04, 0.18, 0.3

_CONTEXT_ROWS: Final = max(_USUAL_ROWS - 1, _BEFORE_ROWS) + _SYLLABLE_ROWS // 2
_ROW_MIDDLE: Final = 0.5  # rows: a row's level is that of 40 ms around its middle


def file_stress(speech: Path, level: SpeechLevel, seconds: NDArray[np.float64]) -> NDArray[np.float32]:
    """Says how stressed the speech of a file is at some times.

    Args:
        speech: .npy file of 16 kHz mono int16.
        level: What `measure_level` said of it.
        seconds: (T,) ascending; past the end of the file there is silence.

    Returns:
        (T,) float32: 0 in silence and where nothing is stressed, 1 with the strongest stress.

    Raises:
        MediaError: The file is not such an array, or is empty.
    """
    return _stress(open_speech(speech), level, seconds)


def window_stress(window: SpeechWindow, seconds: NDArray[np.float64]) -> NDArray[np.float32]:
    """Says the same of speech that is still coming, at some times within its window.

    Args:
        window: What `SpeechStream.window` gave.
        seconds: (T,) ascending, of the stream.
    """
    return _stress(window.samples, window.level, seconds - window.first_row / ROWS_PER_SECOND)


def _stress(samples: NDArray[np.int16], level: SpeechLevel, seconds: NDArray[np.float64]) -> NDArray[np.float32]:
    first = floor((seconds[0] + _AHEAD - _DOWN - _UP) * ROWS_PER_SECOND) - 1
    stop = ceil((seconds[-1] + _AHEAD) * ROWS_PER_SECOND) + 1
    rows, strength = _syllables(samples, level, first, stop)
    start = (rows + _ROW_MIDDLE) / ROWS_PER_SECOND - _AHEAD
    since = seconds[:, None] - start  # (T, S)
    pulses = strength * np.where(since < _DOWN, smooth_step(since / _DOWN), 1 - smooth_step((since - _DOWN) / _UP))
    return np.asarray(1 - np.prod(1 - pulses, 1), np.float32)


def _syllables(
    samples: NDArray[np.int16], level: SpeechLevel, first: int, stop: int
) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """The (S,) rows in [first, stop) whose syllables are stressed, and how much: above 0, up to 1."""
    half = _SYLLABLE_ROWS // 2
    decibels = row_levels(samples, first - _CONTEXT_ROWS, stop + _BEHIND_ROWS + half).astype(np.float64)
    loudness = _loudness(decibels)
    window = np.hanning(_SYLLABLE_ROWS)
    syllable = np.convolve(loudness, window / window.sum(), "valid")  # from row first - _CONTEXT_ROWS + half on
    last = np.lib.stride_tricks.sliding_window_view(loudness, _USUAL_ROWS)
    around = np.lib.stride_tricks.sliding_window_view(syllable, _BEFORE_ROWS + 1 + _BEHIND_ROWS).max(1)
    num = stop - first
    # Of the second that ends with each row; a row counts by how loud it is, so that pauses do not.
    usual = (np.square(last).sum(1) / last.sum(1))[half : half + num]
    here = syllable[_CONTEXT_ROWS - half :][:num]
    loudest = around[_CONTEXT_ROWS - half - _BEFORE_ROWS :][:num]
    ratio = here / np.maximum(usual, _loudness(level.speech_db - _QUIET_DB))
    strength = smooth_step((ratio - _UNSTRESSED) / (_STRESSED - _UNSTRESSED))
    found = np.flatnonzero((here >= loudest) & (strength > 0))
    return first + found, strength[found]


def _loudness(decibels: NDArray[np.float64] | float) -> NDArray[np.float64]:
    return np.asarray(10 ** (_SONES / 10 * np.asarray(decibels)))
