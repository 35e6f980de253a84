"""Power spectra of sound, and mel filter banks on Slaney's scale."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

# Slaney's mel scale (Auditory Toolbox, 1998): linear below 1 kHz, 200 / 3 Hz per mel, then logarithmic.
_LINEAR_HZ: Final = 200 / 3
_KNEE_HZ: Final = 1000.0
_LOG_STEP: Final = np.log(6.4) / 27


def hann_window(num_samples: int) -> NDArray[np.float64]:
    """Returns a periodic Hann window."""
    return np.asarray(0.5 - 0.5 * np.cos(2 * np.pi * np.arange(num_samples) / num_samples))


def power_spectrum(
    sound: NDArray[np.float32], window: NDArray[np.float64], hop: int, num_fft: int
) -> NDArray[np.float32]:
    """Computes the power of (S,) float32 sound at multiples of `hop`, without padding.

    A window shorter than `num_fft` samples is in their middle.

    Returns:
        (1 + (S - num_fft) // hop, 1 + num_fft // 2) float32.
    """
    before = (num_fft - len(window)) // 2
    frames = np.lib.stride_tricks.sliding_window_view(sound, num_fft)[::hop, before : before + len(window)]
    spectrum = np.fft.rfft(frames * window.astype(np.float32), num_fft)  # the phase does not count
    return np.asarray(np.square(spectrum.real) + np.square(spectrum.imag), np.float32)


def mel_bank(
    sample_rate: int, num_fft: int, num_bands: int, lowest_hz: float = 0.0, highest_hz: float | None = None
) -> NDArray[np.float64]:
    """Returns the (num_bands, 1 + num_fft // 2) weights of the spectrum's bins: triangles of unit area.

    They reach from `lowest_hz` to `highest_hz`, which is half of the sample rate by default.
    """
    top = sample_rate / 2 if highest_hz is None else highest_hz
    edges = _mel_to_hz(np.linspace(_hz_to_mel(lowest_hz), _hz_to_mel(top), num_bands + 2))
    bins = np.arange(num_fft // 2 + 1) * (sample_rate / num_fft)
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
