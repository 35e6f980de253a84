from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from models.engines.wav2lip import audio
from models.engines.wav2lip.audio import SILENCE, mel_columns, num_columns


def _wave(num: int, seed: int = 0) -> np.ndarray[Any, np.dtype[np.int16]]:
    rng = np.random.default_rng(seed)
    time = np.arange(num) / 16000
    tone = np.sin(2 * np.pi * (200 + 50 * np.sin(5 * time)) * time)
    return (8000 * tone * np.abs(np.sin(3 * time)) + rng.normal(0, 200, num)).astype(np.int16)


def test_mel_columns_equal_published_front_end(reference: Callable[[str], Any]) -> None:
    stored = reference("mel_synth.npz")
    wave = stored["synth_wave_i16"]
    found = mel_columns(wave, 0, num_columns(len(wave)))
    assert found.T.shape == stored["synth_mel"].shape
    assert np.abs(found.T - stored["synth_mel"]).max() <= 1e-5


def test_mel_bank_equals_librosa() -> None:
    import librosa

    theirs = librosa.filters.mel(sr=16000, n_fft=800, n_mels=80, fmin=55, fmax=7600)
    assert np.abs(audio._mel_bank() - theirs).max() < 1e-7


@pytest.mark.parametrize("num", [1, 2, 150, 400, 4000, 64123])
def test_mel_columns_range_equals_bytes_of_whole(num: int) -> None:
    wave = _wave(num)
    whole = mel_columns(wave, -30, 360)
    for first, stop in ((-30, -2), (-7, 9), (0, 1), (100, 103), (159, 161), (160, 320), (317, 360), (330, 340)):
        assert np.array_equal(mel_columns(wave, first, stop), whole[first + 30 : stop + 30])


def test_mel_columns_outside_file_are_silence() -> None:
    wave = _wave(16000)
    columns = mel_columns(wave, -5, 90)
    assert (columns[:5] == SILENCE).all()
    assert (columns[5 + num_columns(16000) :] == SILENCE).all()
    assert (columns[10:80].max(1) > -2).all()
    assert (mel_columns(np.zeros(16000, np.int16), 0, 81) == SILENCE).all()
