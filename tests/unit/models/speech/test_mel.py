"""Spectra and filter banks against those of librosa."""

from __future__ import annotations

import librosa
import numpy as np
import pytest

from models.speech.mel import hann_window, mel_bank, power_spectrum

_RATE = 16000


@pytest.mark.parametrize(("num_fft", "lowest", "highest"), [(400, 0.0, None), (800, 55.0, 7600.0), (1024, 0.0, 8000.0)])
def test_a_filter_bank_is_librosas(num_fft: int, lowest: float, highest: float | None) -> None:
    theirs = librosa.filters.mel(sr=_RATE, n_fft=num_fft, n_mels=80, fmin=lowest, fmax=highest)
    np.testing.assert_allclose(mel_bank(_RATE, num_fft, 80, lowest, highest), theirs, atol=1e-7)


@pytest.mark.parametrize(("num_fft", "num_window"), [(400, 400), (1024, 800)])
def test_a_spectrum_is_librosas(num_fft: int, num_window: int) -> None:
    sound = np.random.default_rng(0).normal(0, 0.1, 4321).astype(np.float32)
    theirs = np.abs(librosa.stft(sound, n_fft=num_fft, hop_length=160, win_length=num_window, center=False)) ** 2
    ours = power_spectrum(sound, hann_window(num_window), 160, num_fft)
    np.testing.assert_allclose(ours.T, theirs, rtol=1e-4, atol=1e-5)
