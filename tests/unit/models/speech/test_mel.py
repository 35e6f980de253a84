"""Spectra and filter banks are those of librosa."""

from __future__ import annotations

import librosa
import numpy as np
import pytest

from models.speech.mel import mel_bank, power_spectrum


@pytest.mark.parametrize(("fft_samples", "window_samples"), [(400, None), (1024, 800)])
def test_the_spectrum_is_librosas(fft_samples: int, window_samples: int | None) -> None:
    samples = np.random.default_rng(1).normal(0, 0.1, 16000).astype(np.float32)
    theirs = librosa.stft(samples, n_fft=fft_samples, hop_length=160, win_length=window_samples, center=False)
    found = power_spectrum(samples, fft_samples, 160, window_samples)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, np.abs(theirs) ** 2, rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize(("fft_samples", "lowest_hz", "highest_hz"), [(400, 0, 8000), (800, 55, 7600), (1024, 0, 8000)])
def test_the_filter_bank_is_librosas(fft_samples: int, lowest_hz: float, highest_hz: float) -> None:
    theirs = librosa.filters.mel(sr=16000, n_fft=fft_samples, n_mels=80, fmin=lowest_hz, fmax=highest_hz)
    assert np.abs(mel_bank(80, fft_samples, lowest_hz, highest_hz) - theirs).max() < 1e-7
