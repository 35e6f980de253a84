from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from lipwright.media.audio import SPEECH_SAMPLE_RATE
from models.speech.level import measure_level
from models.speech.pitch import pitch_semitones
from models.speech.prosody import Prosody, file_prosody, window_prosody
from tests.unit.models.speech.live_windows import live_windows

FPS = 25


def _voice(hertz: Sequence[float], seconds: float = 0.2) -> NDArray[np.int16]:
    """Syllables with these pitches, as loud as each other; 0 is a pause."""
    pieces = []
    for pitch in hertz:
        time = np.arange(int(seconds * SPEECH_SAMPLE_RATE)) / SPEECH_SAMPLE_RATE
        envelope = np.sin(np.pi * time / seconds) ** 0.5 * (pitch > 0)
        pieces.append(envelope * sum(np.sin(2 * np.pi * pitch * k * time) / k for k in range(1, 6)))
    return np.asarray(np.concatenate(pieces) * 8000, np.int16)


def _prosody(samples: NDArray[np.int16], path: Path, seconds: NDArray[np.float64] | None = None) -> Prosody:
    np.save(path, samples)
    if seconds is None:
        seconds = np.arange(int(len(samples) / SPEECH_SAMPLE_RATE * FPS)) / FPS
    return file_prosody(path, measure_level(path), seconds)


@pytest.mark.parametrize("hertz", [85, 130, 210, 330])
def test_pitch_semitones_of_voice_and_noise(hertz: float) -> None:
    rows = np.arange(5, 40)
    found = pitch_semitones(_voice([hertz] * 5), rows)
    assert np.isfinite(found).mean() > 0.9
    np.testing.assert_allclose(np.nanmedian(found), 12 * np.log2(hertz), atol=0.3)
    noise = np.random.default_rng(1).normal(0, 3000, SPEECH_SAMPLE_RATE).astype(np.int16)
    assert np.isnan(pitch_semitones(noise, rows)).mean() > 0.8
    assert np.isnan(pitch_semitones(np.zeros(16000, np.int16), rows)).all()


def test_file_prosody_raised_stressed_syllable_is_an_accent(tmp_path: Path) -> None:
    said = _voice([120, 120, 120, 160, 120, 120, 120, 120, 120, 120]) * 0.5
    for syllable in (3, 7):  # both are louder, one is higher
        said[round(syllable * 0.2 * SPEECH_SAMPLE_RATE) : round((syllable + 1) * 0.2 * SPEECH_SAMPLE_RATE)] *= 2
    prosody = _prosody(said.astype(np.int16), tmp_path / "speech.npy")
    high, level = (slice(round(at * FPS), round((at + 0.4) * FPS)) for at in (0.6, 1.4))
    assert prosody.stress[high].max() > 0.5 and prosody.stress[level].max() > 0.5
    assert prosody.accent[high].max() > 0.4 > 0.1 > prosody.accent[level].max()


def test_file_prosody_phrases_start_and_end_at_pauses(tmp_path: Path) -> None:
    said = _voice([0] * 3 + [120] * 8 + [0] * 3 + [120] * 6 + [0] * 8)
    prosody = _prosody(said, tmp_path / "speech.npy")
    np.testing.assert_allclose(prosody.starts / 50, [0.6, 2.8], atol=0.06)
    np.testing.assert_allclose(prosody.ends / 50, [2.2, 4.0], atol=0.06)
    assert prosody.speaking[: round(0.3 * FPS)].max() == 0
    assert prosody.speaking[round(1.8 * FPS)] > 0.95
    assert prosody.speaking[round(5.3 * FPS) :].max() == 0
    assert np.abs(np.diff(prosody.speaking)).max() < 0.15, "it comes and goes gradually"


def _syllables(levels: list[float], gap_seconds: float = 0.25) -> NDArray[np.int16]:
    """Bursts of 160 ms of a voiced sound, after half a second of silence and before one and a half."""
    time = np.arange(int(gap_seconds * SPEECH_SAMPLE_RATE)) / SPEECH_SAMPLE_RATE
    envelope = np.sin(np.pi * (time / 0.16).clip(0, 1)) ** 2
    one = envelope * sum(np.sin(2 * np.pi * 140 * k * time) / k for k in range(1, 8))
    speech = np.concatenate([np.zeros(SPEECH_SAMPLE_RATE // 2), *(level * one for level in levels)])
    return np.asarray(np.pad(speech, (0, 3 * SPEECH_SAMPLE_RATE // 2)) * 9000, np.int16)


@pytest.fixture(scope="module")
def twice(voice: NDArray[np.int16]) -> NDArray[np.int16]:
    pause = np.zeros(2 * SPEECH_SAMPLE_RATE, np.int16)
    return np.concatenate([voice, pause, voice, pause])


@pytest.mark.parametrize(("fps", "num"), [(25, 1), (30000 / 1001, 7), (60, 40)])
def test_file_prosody_in_pieces_equals_the_whole(
    tmp_path: Path, twice: NDArray[np.int16], fps: float, num: int
) -> None:
    path = tmp_path / "speech.npy"
    seconds = np.arange(int(len(twice) / SPEECH_SAMPLE_RATE * fps)) / fps
    whole = _prosody(twice, path, seconds)
    level = measure_level(path)
    pieces = [file_prosody(path, level, seconds[start : start + num]) for start in range(0, len(seconds), num)]
    for name in ("stress", "accent", "speaking"):
        joined = np.concatenate([getattr(piece, name) for piece in pieces])
        np.testing.assert_allclose(joined, getattr(whole, name), atol=1e-6)
    assert {row for piece in pieces for row in piece.ends.tolist()} == set(whole.ends.tolist())


def test_window_prosody_of_a_stream_equals_the_files(tmp_path: Path, twice: NDArray[np.int16]) -> None:
    whole = _prosody(twice, tmp_path / "speech.npy")
    pieces = live_windows(twice, Fraction(FPS), range(len(whole.stress) - 3), 3)
    heard = [window_prosody(window, np.arange(span.first, span.stop) / FPS) for span, window in pieces]
    for name in ("stress", "speaking"):
        live = np.concatenate([getattr(piece, name) for piece in heard])
        np.testing.assert_allclose(live, getattr(whole, name)[: len(live)], atol=0.1)  # but for how loud it is
    assert {row for piece in heard for row in piece.starts.tolist()} == set(whole.starts.tolist())
    ends = {row for piece in heard for row in piece.ends.tolist()}
    assert ends <= set(whole.ends.tolist()) and len(ends) >= 2


def test_file_prosody_of_silence_and_noise_is_zero(tmp_path: Path) -> None:
    silence = _prosody(np.zeros(3 * SPEECH_SAMPLE_RATE, np.int16), tmp_path / "silence.npy")
    assert not any(part.any() for part in silence)
    speech = _syllables([0.6, 1, 0.6, 0.6, 1.0, 0.6, 0.6])
    noisy = (speech + np.random.default_rng(3).normal(0, 150, len(speech))).astype(np.int16)
    stress = _prosody(noisy, tmp_path / "noisy.npy").stress
    assert stress.max() > 0.5
    assert stress[: round(0.4 * FPS)].max() == stress[round(2.75 * FPS) + 1 :].max() == 0


def test_file_prosody_stress_is_at_the_loudest_syllables(tmp_path: Path) -> None:
    seconds, speech = np.arange(0, 3.5, 0.01), _syllables([0.5, 0.5, 0.5, 0.5, 1.2, 0.5, 0.5, 0.5])
    stress = _prosody(speech, tmp_path / "speech.npy", seconds).stress
    loudest = 0.5 + 4 * 0.25 + 0.08
    assert 0.05 < seconds[stress.argmax()] - loudest < 0.2, "deepest while it sounds, or just behind it"
    assert stress.max() > 0.6
    assert stress[(seconds > 0.9) & (seconds < 1.5)].max() < 0.5 * stress.max()


def test_file_prosody_stress_of_real_speech_is_rare_and_smooth(tmp_path: Path, twice: NDArray[np.int16]) -> None:
    path = tmp_path / "speech.npy"
    stress = _prosody(twice, path).stress
    deepest = (stress[1:-1] > stress[:-2]) & (stress[1:-1] >= stress[2:]) & (stress[1:-1] > 0.25)
    assert 3 <= deepest.sum() / 2 <= 8, "in five seconds"
    said = twice.size / SPEECH_SAMPLE_RATE / 2 - 2
    assert stress[round((said + 0.5) * FPS) + 1 : round((said + 1.9) * FPS)].max() == 0, "none in the pause"
    np.testing.assert_allclose(_prosody(twice // 4, tmp_path / "quiet.npy").stress, stress, atol=0.1)
    speed = np.diff(_prosody(twice, path, np.arange(0, 12, 0.002)).stress) / 0.002
    assert np.abs(speed).max() < 12, "a nod takes .18 s down"
    assert np.abs(np.diff(speed)).max() / 0.002 < 400, "and begins and ends with no speed"
