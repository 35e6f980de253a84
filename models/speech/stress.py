"""Stressed syllables, which drive the nods of a still portrait.

Listeners identify prominent syllables by loudness more than by pitch (Kochanski, Grabe, Coleman and Rosner, "Loudness
predicts prominence: fundamental frequency lends little", JASA 118, 2005), so only loudness is used. A
syllable counts by how much louder it is than the last second of speech. Each starts one pulse, and pulses merge.

The value of a frame depends on the audio from 1.5 s before it to 0.24 s after it and on the speech level of the file,
so it does not depend on how the file is split into blocks. A live stream has the same audio but only the level so far:
its curve differs by at most .06 (six recordings).
"""

from __future__ import annotations

from math import ceil, floor
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from models.geometry.arrays import smooth_step
from models.speech.level import ROWS_PER_SECOND, SpeechLevel, open_speech, row_levels

if TYPE_CHECKING:
    from models.speech.stream import SpeechWindow

# Stevens's power law: loudness in sones grows with the power of the sound to .3 ("The measurement of loudness", JASA
# 27, 1955).
_SONES: Final = 0.3
_SYLLABLE_ROWS: Final = 7  # Hann window (ends zero) over which loudness is averaged: 100 ms
_USUAL_ROWS: Final = 50  # one second, the reference for the loudness of a syllable
# A syllable is a local maximum of loudness: no second one within .3 s, as stresses do not follow each other faster.
_BEFORE_ROWS, _BEHIND_ROWS = 15, 6
# Loudness ratio of a syllable. Of 249 syllables in 23 recordings (GRID, videos in the wild, synthetic voices in seven
# languages), 13 % are below 1.05 and 29 % above 1.4.
_UNSTRESSED, _STRESSED = 1.05, 1.4
_QUIET_DB: Final = 12.0  # below loud speech: the lowest reference, so that noise and murmur do not count as stressed
# Seconds. A beat nod is deepest during the stressed syllable (Alexanderson, House and Beskow, "Aspects
# of co-occurring syllables and head nods in spontaneous dialogue", AVSP 2013), starts with it and returns slowly.
_AHEAD, _DOWN, _UP = 0.04, 0.18, 0.3

_CONTEXT_ROWS: Final = max(_USUAL_ROWS - 1, _BEFORE_ROWS) + _SYLLABLE_ROWS // 2
_ROW_MIDDLE: Final = 0.5  # rows: the level of a row covers 40 ms around its middle


def file_stress(speech: Path, level: SpeechLevel, seconds: NDArray[np.float64]) -> NDArray[np.float32]:
    """Returns how stressed the speech of a file is at the given times.

    Args:
        speech: .npy file of 16 kHz mono int16.
        level: Result of `measure_level` for this file.
        seconds: (T,) ascending; past the end of the file there is silence.

    Returns:
        (T,) float32: 0 in silence and unstressed speech, 1 at the strongest stress.

    Raises:
        MediaError: The file is not such an array, or is empty.
    """
    return _stress(open_speech(speech), level, seconds)


def window_stress(window: SpeechWindow, seconds: NDArray[np.float64]) -> NDArray[np.float32]:
    """Returns how stressed live speech is at the given times within its window.

    Args:
        window: From `SpeechStream.window`.
        seconds: (T,) ascending, from the start of the stream.
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
    """Returns the (S,) rows in [first, stop) with stressed syllables, and their strengths in (0, 1]."""
    half = _SYLLABLE_ROWS // 2
    decibels = row_levels(samples, first - _CONTEXT_ROWS, stop + _BEHIND_ROWS + half).astype(np.float64)
    loudness = _loudness(decibels)
    window = np.hanning(_SYLLABLE_ROWS)
    syllable = np.convolve(loudness, window / window.sum(), "valid")  # from row first - _CONTEXT_ROWS + half on
    last = np.lib.stride_tricks.sliding_window_view(loudness, _USUAL_ROWS)
    around = np.lib.stride_tricks.sliding_window_view(syllable, _BEFORE_ROWS + 1 + _BEHIND_ROWS).max(1)
    num = stop - first
    # Loudness-weighted mean over the second that ends with each row, so that pauses do not count.
    usual = (np.square(last).sum(1) / last.sum(1))[half : half + num]
    here = syllable[_CONTEXT_ROWS - half :][:num]
    loudest = around[_CONTEXT_ROWS - half - _BEFORE_ROWS :][:num]
    ratio = here / np.maximum(usual, _loudness(level.speech_db - _QUIET_DB))
    strength = smooth_step((ratio - _UNSTRESSED) / (_STRESSED - _UNSTRESSED))
    found = np.flatnonzero((here >= loudest) & (strength > 0))
    return first + found, strength[found]


def _loudness(decibels: NDArray[np.float64] | float) -> NDArray[np.float64]:
    return np.asarray(10 ** (_SONES / 10 * np.asarray(decibels)))
