"""The mel spectrum that Wav2Lip was trained on: 80 columns a second, column m around m / 80 seconds of the file.

Source of all constants: Rudrabha/Wav2Lip, hparams.py and audio.py (its filter bank is librosa's: Slaney's scale and
area). Everything is computed in blocks that lie at fixed places of the file, so that a column has the same bytes
whatever stretch was asked for: array libraries compute the last few values of an array in another way than the rest.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from errors import CancelledJobError
from media.audio import SPEECH_SAMPLE_RATE
from models.engines.wav2lip.layers import MEL_BANDS

HOP_SAMPLES: Final = 200
COLUMNS_PER_SECOND: Final = SPEECH_SAMPLE_RATE // HOP_SAMPLES
SILENCE: Final = -4.0
"""Value of all bands where nothing is heard: the lower end of the scale from -4 to 4."""

_FFT_SAMPLES: Final = 800
_PREEMPHASIS: Final = 0.97
_LOWEST_HZ, _HIGHEST_HZ = 55.0, 7600.0
_TINY, _REFERENCE_DB, _RANGE_DB, _HALF_SCALE = 1e-5, 20.0, 100.0, 4.0
_BLOCK_COLUMNS: Final = 160  # two seconds
# Slaney's mel scale (Auditory Toolbox, 1998): linear below 1 kHz, 200 / 3 Hz a mel, then logarithmic.
_LINEAR_HZ, _KNEE_HZ, _LOG_STEP = 200 / 3, 1000.0, np.log(6.4) / 27


def num_columns(num_samples: int) -> int:
    """Return how many columns a file of 16 kHz samples has."""
    return 1 + num_samples // HOP_SAMPLES


def mel_columns(
    samples: NDArray[np.int16], first: int, stop: int, should_stop: Callable[[], bool] = lambda: False
) -> NDArray[np.float32]:
    """Compute columns [first, stop) of a file; before its start and after its end there is silence.

    Args:
        samples: (N,) int16 mono at 16 kHz, N > 0, the whole file.
        first: First column, may be negative.
        stop: Column after the last.
        should_stop: Asked every two seconds of speech.

    Returns:
        (stop - first, 80) float32, -4 to 4.

    Raises:
        CancelledJobError: `should_stop` said so.
    """
    columns = np.full((stop - first, MEL_BANDS), SILENCE, np.float32)
    end = min(stop, num_columns(len(samples)))
    if first >= end:
        return columns
    for start in range(max(first, 0) // _BLOCK_COLUMNS * _BLOCK_COLUMNS, end, _BLOCK_COLUMNS):
        if should_stop():
            raise CancelledJobError("The speech was not listened to until its end.")
        block = _block(samples, start)
        low, high = max(start, first), min(start + _BLOCK_COLUMNS, end)
        columns[low - first : high - first] = block[low - start : high - start]
    return columns


def _block(samples: NDArray[np.int16], first: int) -> NDArray[np.float32]:
    """(160, 80) columns from `first` on; those past the end of the file are of no use."""
    half = _FFT_SAMPLES // 2
    start, num = first * HOP_SAMPLES - half, (_BLOCK_COLUMNS - 1) * HOP_SAMPLES + _FFT_SAMPLES
    # At both ends the emphasised sound is mirrored about its outermost sample, as librosa 0.8 did.
    emphasised = _emphasised(samples, _mirrored(np.arange(start, start + num), len(samples)))
    frames = np.lib.stride_tricks.sliding_window_view(emphasised, _FFT_SAMPLES)[::HOP_SAMPLES]  # (160, 800)
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(_FFT_SAMPLES) / _FFT_SAMPLES)  # periodic Hann
    magnitude = np.abs(np.fft.rfft(frames * window))  # (160, 401)
    decibels = 20 * np.log10(np.maximum(_TINY, magnitude @ _mel_bank().T)) - _REFERENCE_DB
    scaled = 2 * _HALF_SCALE * (decibels + _RANGE_DB) / _RANGE_DB - _HALF_SCALE
    return scaled.clip(-_HALF_SCALE, _HALF_SCALE).astype(np.float32)


def _mirrored(index: NDArray[np.int64], num: int) -> NDArray[np.int64]:
    """Indices into N values of places that may lie before the first or after the last, mirrored there."""
    if num == 1:
        return np.zeros_like(index)
    period = 2 * (num - 1)
    folded = np.abs(index) % period
    return np.asarray(np.minimum(folded, period - folded))


def _emphasised(samples: NDArray[np.int16], index: NDArray[np.int64]) -> NDArray[np.float64]:
    """High frequencies raised: x[i] - 0.97 x[i - 1] at the places `index`, of samples from -1 to 1."""
    own = samples[index].astype(np.float64)
    before = np.where(index > 0, samples[np.maximum(index - 1, 0)], 0).astype(np.float64)
    return (own - _PREEMPHASIS * before) / 32768


@cache
def _mel_bank() -> NDArray[np.float64]:
    """(80, 401) weights of the spectrum's bins: triangles of unit area."""
    edges = _mel_to_hz(np.linspace(_hz_to_mel(_LOWEST_HZ), _hz_to_mel(_HIGHEST_HZ), MEL_BANDS + 2))  # (82,)
    bins = np.arange(_FFT_SAMPLES // 2 + 1) * (SPEECH_SAMPLE_RATE / _FFT_SAMPLES)
    rising = (bins - edges[:-2, None]) / np.diff(edges)[:-1, None]
    falling = (edges[2:, None] - bins) / np.diff(edges)[1:, None]
    area = (edges[2:] - edges[:-2])[:, None] / 2
    return np.asarray(np.maximum(0, np.minimum(rising, falling)) / area)


def _hz_to_mel(hz: float) -> float:
    if hz < _KNEE_HZ:
        return hz / _LINEAR_HZ
    return float(_KNEE_HZ / _LINEAR_HZ + np.log(hz / _KNEE_HZ) / _LOG_STEP)


def _mel_to_hz(mel: NDArray[np.float64]) -> NDArray[np.float64]:
    knee = _KNEE_HZ / _LINEAR_HZ
    hz: NDArray[np.float64] = np.where(
        mel < knee, mel * _LINEAR_HZ, _KNEE_HZ * np.exp(_LOG_STEP * (np.maximum(mel, knee) - knee))
    )
    return hz
