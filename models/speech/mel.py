"""Short-time spectra and mel filter banks, as librosa computes them.

librosa takes a second of CPU time to import, which a service would spend at every start.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from media.audio import SPEECH_SAMPLE_RATE

# Slaney's mel scale (Auditory Toolbox, 1998): linear below 1 kHz, 200 / 3 Hz per mel, then logarithmic.
_LINEAR_HZ, _KNEE_HZ, _LOG_STEP = 200 / 3, 1000.0, np.log(6.4) / 27


def power_spectrum(
    samples: NDArray[np.float32], fft_samples: int, hop_samples: int, window_samples: int | None = None
) -> NDArray[np.float32]:
    """Return the squared magnitudes of the short-time Fourier transform with a periodic Hann window.

    Args:
        samples: (N,) float32, N >= `fft_samples`. Frame k starts at sample k x `hop_samples`.
        fft_samples: Length of a frame.
        hop_samples: Distance of the starts of two frames.
        window_samples: Length of the window, which is centred in the frame; None means the whole frame.

    Returns:
        (fft_samples // 2 + 1, frames) float32.
    """
    length = window_samples or fft_samples
    before = (fft_samples - length) // 2
    window = np.zeros(fft_samples)
    window[before : before + length] = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(length) / length)
    frames = np.lib.stride_tricks.sliding_window_view(samples, fft_samples)[::hop_samples]
    spectrum = np.fft.rfft(frames * window).astype(np.complex64).T
    return np.asarray(np.square(spectrum.real) + np.square(spectrum.imag))


def mel_bank(num_bands: int, fft_samples: int, lowest_hz: float, highest_hz: float) -> NDArray[np.float64]:
    """Return the weights of the bins of a spectrum at 16 kHz in each band: triangles of unit area.

    Returns:
        (num_bands, fft_samples // 2 + 1) float64.
    """
    edges = _mel_to_hz(np.linspace(_hz_to_mel(lowest_hz), _hz_to_mel(highest_hz), num_bands + 2))
    bins = np.arange(fft_samples // 2 + 1) * (SPEECH_SAMPLE_RATE / fft_samples)
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
