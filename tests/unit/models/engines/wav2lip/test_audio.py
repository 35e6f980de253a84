from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.engines.protocol import FrameSpan
from models.engines.wav2lip import audio
from models.engines.wav2lip.audio import (
    MAX_OFFSET,
    SILENCE,
    MelAudioEncoder,
    columns_needed,
    mel_columns,
    mel_windows,
    num_columns,
    plan_windows,
    window_starts,
)
from models.speech.level import measure_level


@pytest.mark.parametrize("fps", ["25", "29.97", "30"])
def test_window_starts_equal_official_script(reference: Callable[[str], Any], fps: str) -> None:
    official = reference("mel_synth.npz")[f"synth_starts_{fps}"]
    ours = window_starts(FrameSpan(Fraction(fps), 0, len(official), len(official)))
    # Its last window is moved back to end with the file; the frames after it are dropped. Ours go on.
    assert np.array_equal(ours[:-1], official[:-1])
    assert ours[-1] > official[-1]


def test_mel_windows_equal_official_script(reference: Callable[[str], Any]) -> None:
    official = reference("datapath_synth.npz")["mel"]
    wave = reference("mel_synth.npz")["synth_wave_i16"]
    mel = mel_columns(wave, 0, num_columns(len(wave)))
    starts = window_starts(FrameSpan(Fraction(25), 0, 51, 51))[5::15]
    assert starts.tolist() == [16, 64, 112, 160]
    assert np.abs(mel_windows(mel, 0, starts) - official).max() <= 1e-5


def test_window_starts_offset_is_40_ms_at_any_rate() -> None:
    for fps in (Fraction(25), Fraction(30000, 1001), Fraction(50)):
        span = FrameSpan(fps, 0, 400, 400)
        exact = np.array([float(80 * i / fps) for i in range(400)])
        for offset in (-1, 0, 2):
            off = window_starts(span, offset) - (exact + 3.2 * offset)
            assert (off <= 1e-9).all()
            assert (off > -1).all()


def test_window_starts_of_late_span_are_exact() -> None:
    fps = Fraction(30000, 1001)
    whole = window_starts(FrameSpan(fps, 0, 200_000, 200_000))
    part = window_starts(FrameSpan(fps, 199_000, 1000, 200_000))
    assert np.array_equal(part, whole[199_000:])
    assert abs(whole[-1] / 80 - float(199_999 / fps)) < 1 / 80


@pytest.mark.parametrize("offset", [-MAX_OFFSET, 0, MAX_OFFSET])
def test_columns_needed_cover_all_windows(offset: int) -> None:
    for first in (0, 7, 1000):
        span = FrameSpan(Fraction(24000, 1001), first, 13, 2000)
        start, stop = columns_needed(span)
        windows = mel_windows(np.zeros((stop - start, 80), np.float32), start, window_starts(span, offset))
        assert windows.shape == (13, 80, 16)


def test_mel_windows_outside_columns_raise() -> None:
    with pytest.raises(ValueError, match="Expected windows in columns"):
        mel_windows(np.zeros((20, 80), np.float32), 0, np.array([5]))


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


def test_mel_encode_past_end_gives_windows(tmp_path: Path) -> None:
    time = np.arange(41_600) / 16000  # 2.6 seconds: silence, then a loud tone that comes and goes
    wave = 9000 * np.sin(2 * np.pi * 220 * time) * (time > 1) * np.abs(np.sin(8 * time))
    path = tmp_path / "speech.npy"
    np.save(path, wave.astype(np.int16))
    span = FrameSpan(Fraction(30000, 1001), 0, 100, 100)
    heard = MelAudioEncoder().encode(path, measure_level(path), span)
    windows = plan_windows(heard, span, np.zeros(100, np.int32), 0).features
    assert windows.shape == (100, 80, 16)
    assert (windows[80:] == -4).all()  # 2.67 s and later
    assert windows[74].max() > 0  # 2.47 s: dropped by the official script, whose last whole window starts at 2.41 s
    assert heard.gate[10] == 0 and heard.gate[45] == 1 and heard.gate[90] == 0
