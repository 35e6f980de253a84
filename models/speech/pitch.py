"""Fundamental frequency of speech, from the autocorrelation of short windows.

The autocorrelation is divided by that of the window (Boersma, "Accurate short-term analysis of the fundamental
frequency", IFA Proceedings 17, 1993).
"""

from __future__ import annotations

from functools import cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from lipwright.media.audio import SPEECH_SAMPLE_RATE
from models.speech.level import ROWS_PER_SECOND, cut_speech

_ROW_SAMPLES: Final = SPEECH_SAMPLE_RATE // ROWS_PER_SECOND
_WINDOW: Final = 640  # samples, 40 ms: three periods of the lowest voice
_LOWEST, _HIGHEST = 75, 400  # Hz
_LAGS: Final = slice(SPEECH_SAMPLE_RATE // _HIGHEST, SPEECH_SAMPLE_RATE // _LOWEST + 1)
_FFT: Final = 1024  # a window and the longest lag
_OCTAVE_COST: Final = 0.03  # per octave, as Boersma's, but for windows of 40 ms
_VOICED: Final = 0.5  # autocorrelation at the period, relative to that at lag 0


def pitch_semitones(samples: NDArray[np.int16], rows: NDArray[np.integer]) -> NDArray[np.float64]:
    """Return the pitch in the middle of rows of 20 ms.

    Args:
        samples: (N,) int16 at 16 kHz; there is silence outside.
        rows: (R,) ascending numbers of rows.

    Returns:
        (R,) semitones above 1 Hz; NaN where nothing is voiced.
    """
    if not len(rows):
        return np.zeros(0)
    first = int(rows[0]) * _ROW_SAMPLES + (_ROW_SAMPLES - _WINDOW) // 2
    speech = cut_speech(samples, first, first + int(rows[-1] - rows[0]) * _ROW_SAMPLES + _WINDOW)
    windows = np.lib.stride_tricks.sliding_window_view(speech, _WINDOW)[(rows - rows[0]) * _ROW_SAMPLES]
    windows = (windows - windows.mean(1, keepdims=True)) * np.hanning(_WINDOW).astype(np.float32)  # (R, W)
    correlation = _autocorrelation(windows)
    strength = correlation[:, _LAGS] / np.maximum(correlation[:, :1], 1e-9) / _window_correlation()[_LAGS]
    # A voice also repeats after two periods; the shorter lag counts.
    best = (strength - _OCTAVE_COST * np.log2(np.arange(_LAGS.start, _LAGS.stop))).argmax(1)
    semitones = 12 * np.log2(SPEECH_SAMPLE_RATE / (best + _LAGS.start))
    return np.where(strength[np.arange(len(rows)), best] > _VOICED, semitones, np.nan)


def _autocorrelation(windows: NDArray[np.floating]) -> NDArray[np.floating]:
    return np.fft.irfft(np.abs(np.fft.rfft(windows, _FFT)) ** 2, _FFT)


@cache
def _window_correlation() -> NDArray[np.floating]:
    correlation = _autocorrelation(np.hanning(_WINDOW)[None])[0]
    return np.asarray(correlation / correlation[0])
