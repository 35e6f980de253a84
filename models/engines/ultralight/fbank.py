"""Kaldi's log-mel filter bank, as WeNet's encoder was trained with.

Kaldi, feat/feature-window.cc, feat/mel-computations.cc, feat/feature-fbank.cc with the options of
data_utils/FeaturePipeline.py (anliyuan/Ultralight-Digital-Human): 16 kHz, 25 ms frames every 10 ms, no dither, 80 bands
from 20 Hz to 8 kHz, whole frames only (`snip_edges`); samples stay in the range of int16.
"""

from __future__ import annotations

from functools import cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

SAMPLE_RATE: Final = 16_000
WINDOW_SAMPLES: Final = 400
HOP_SAMPLES: Final = 160
NUM_BANDS: Final = 80
_NUM_FFT: Final = 512
_PREEMPHASIS: Final = 0.97
_POVEY_POWER: Final = 0.85
_LOWEST_HZ: Final = 20.0
_FLOOR: Final = float(np.finfo(np.float32).eps)


def fbank(samples: NDArray[np.float32]) -> NDArray[np.float32]:
    """Computes log-mel frames.

    Args:
        samples: (N,) float32, -32768 to 32767, N >= 400.

    Returns:
        ((N - 400) // 160 + 1, 80) float32 natural logarithms.
    """
    frames = np.lib.stride_tricks.sliding_window_view(samples, WINDOW_SAMPLES)[::HOP_SAMPLES].astype(np.float64)
    frames = frames - frames.mean(1, keepdims=True)
    before = np.concatenate([frames[:, :1], frames[:, :-1]], 1)
    spectrum = np.fft.rfft((frames - _PREEMPHASIS * before) * _window(), _NUM_FFT)  # (F, 257)
    power = np.square(spectrum.real) + np.square(spectrum.imag)
    mel = power[:, : _NUM_FFT // 2] @ _bands().T
    return np.log(np.maximum(mel, _FLOOR)).astype(np.float32)


@cache
def _window() -> NDArray[np.float64]:
    """Kaldi's own: a Hann window to the power of .85, which is zero at its ends."""
    return np.asarray(np.hanning(WINDOW_SAMPLES) ** _POVEY_POWER, np.float64)


@cache
def _bands() -> NDArray[np.float64]:
    """(80, 256) triangles, evenly spaced and linear in mels; the bin of 8 kHz is in none."""
    mel = _mels(np.arange(_NUM_FFT // 2) * SAMPLE_RATE / _NUM_FFT)
    edges = np.linspace(_mels(np.array(_LOWEST_HZ)), _mels(np.array(SAMPLE_RATE / 2)), NUM_BANDS + 2)
    left, centre, right = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    rising, falling = (mel - left) / (centre - left), (right - mel) / (right - centre)
    return np.asarray(np.maximum(np.minimum(rising, falling), 0.0))


def _mels(hertz: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(1127.0 * np.log1p(hertz / 700.0))
