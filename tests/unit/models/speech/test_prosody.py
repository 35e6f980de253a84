from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from media.audio import SPEECH_SAMPLE_RATE
from models.speech.level import ROWS_PER_SECOND, measure_level, open_speech
from models.speech.pitch import pitch_semitones
from models.speech.prosody import Prosody, file_prosody, window_prosody
from models.speech.stress import stressed_syllables
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


def _prosody(samples: NDArray[np.int16], path: Path, part: slice = slice(None)) -> Prosody:
    np.save(path, samples)
    seconds = np.arange(int(len(samples) / SPEECH_SAMPLE_RATE * FPS)) / FPS
    return file_prosody(path, measure_level(path), seconds[part])


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
    said = _voice([120, 120, 120, 160, 120, 120, 120, 120, 120, 120]).astype(float)
    said[:] *= 0.5
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


@pytest.mark.parametrize("num", [1, 7, 40])
def test_file_prosody_in_pieces_equals_the_whole(tmp_path: Path, num: int) -> None:
    said = _voice([0, 120, 140, 180, 120, 0, 0, 0, 150, 120, 90, 0, 0, 0, 0, 130, 0, 0])
    whole = _prosody(said, tmp_path / "speech.npy")
    pieces = [_prosody(said, tmp_path / "speech.npy", slice(at, at + num)) for at in range(0, len(whole.stress), num)]
    for name in ("stress", "accent", "speaking"):
        joined = np.concatenate([getattr(piece, name) for piece in pieces])
        np.testing.assert_allclose(joined, getattr(whole, name), atol=1e-6)
    assert {row for piece in pieces for row in piece.ends.tolist()} == set(whole.ends.tolist())


def test_window_prosody_of_a_stream_equals_the_files(tmp_path: Path) -> None:
    said = _voice([0, 120, 140, 180, 120, 0, 0, 0, 150, 120, 90, 0, 0, 0, 0, 130, 0, 0, 0, 0])
    whole = _prosody(said, tmp_path / "speech.npy")
    pieces = live_windows(said, Fraction(FPS), range(len(whole.stress) - 3), 3)
    heard = [window_prosody(window, np.arange(span.first, span.stop) / FPS) for span, window in pieces]
    live = np.concatenate([piece.speaking for piece in heard])
    np.testing.assert_allclose(live, whole.speaking[: len(live)], atol=0.1)
    assert {row for piece in heard for row in piece.starts.tolist()} == set(whole.starts.tolist())
    ends = {row for piece in heard for row in piece.ends.tolist()}
    assert ends <= set(whole.ends.tolist()) and len(ends) >= 2
    silence = _prosody(np.zeros(48000, np.int16), tmp_path / "silence.npy")
    assert not any(part.any() for part in silence)


class Spoken:
    def __init__(self, path: Path, samples: NDArray[np.int16]) -> None:
        np.save(path, samples)
        self.path, self.samples, self.level = path, samples, measure_level(path)

    def stress(self, seconds: NDArray[np.float64]) -> NDArray[np.float32]:
        return stressed_syllables(open_speech(self.path), self.level, seconds).curve()


def _syllables(levels: list[float], gap_seconds: float = 0.25) -> NDArray[np.int16]:
    """Bursts of 160 ms of a voiced sound, after half a second of silence and before one and a half."""
    time = np.arange(int(gap_seconds * SPEECH_SAMPLE_RATE)) / SPEECH_SAMPLE_RATE
    envelope = np.sin(np.pi * (time / 0.16).clip(0, 1)) ** 2
    one = envelope * sum(np.sin(2 * np.pi * 140 * k * time) / k for k in range(1, 8))
    speech = np.concatenate([np.zeros(SPEECH_SAMPLE_RATE // 2), *(level * one for level in levels)])
    return np.asarray(np.pad(speech, (0, 3 * SPEECH_SAMPLE_RATE // 2)) * 9000, np.int16)


@pytest.fixture(scope="module")
def twice(voice: NDArray[np.int16], tmp_path_factory: pytest.TempPathFactory) -> Spoken:
    pause = np.zeros(2 * SPEECH_SAMPLE_RATE, np.int16)
    return Spoken(tmp_path_factory.mktemp("stress") / "speech.npy", np.concatenate([voice, pause, voice]))


def _times(spoken: Spoken, fps: float = FPS) -> NDArray[np.float64]:
    return np.arange(int(len(spoken.samples) / SPEECH_SAMPLE_RATE * fps)) / fps


def test_stress_of_silence_and_noise_is_zero(tmp_path: Path) -> None:
    silence = Spoken(tmp_path / "silence.npy", np.zeros(3 * SPEECH_SAMPLE_RATE, np.int16))
    assert silence.stress(_times(silence)).max() == 0
    rng = np.random.default_rng(3)
    speech = _syllables([0.6, 1, 0.6, 0.6, 1.0, 0.6, 0.6]).astype(float)
    noisy = Spoken(tmp_path / "noisy.npy", (speech + rng.normal(0, 150, len(speech))).astype(np.int16))
    stress = noisy.stress(_times(noisy))
    assert stress.max() > 0.5
    assert stress[_times(noisy) < 0.4].max() == stress[_times(noisy) > 2.75].max() == 0


def test_stress_is_at_the_loudest_syllables(tmp_path: Path) -> None:
    spoken = Spoken(tmp_path / "speech.npy", _syllables([0.5, 0.5, 0.5, 0.5, 1.2, 0.5, 0.5, 0.5]))
    seconds = np.arange(0, 3.5, 0.01)
    stress = spoken.stress(seconds)
    loudest = 0.5 + 4 * 0.25 + 0.08
    assert 0.05 < seconds[stress.argmax()] - loudest < 0.2, "deepest while it sounds, or just behind it"
    assert stress.max() > 0.6
    assert stress[(seconds > 0.9) & (seconds < 1.5)].max() < 0.5 * stress.max()


def test_stress_of_real_speech_is_rare_smooth_and_not_in_pauses(twice: Spoken, tmp_path: Path) -> None:
    seconds = _times(twice)
    stress = twice.stress(seconds)
    deepest = (stress[1:-1] > stress[:-2]) & (stress[1:-1] >= stress[2:]) & (stress[1:-1] > 0.25)
    assert 3 <= deepest.sum() / 2 <= 8, "in five seconds"
    said = twice.samples.size / SPEECH_SAMPLE_RATE / 2 - 1
    assert stress[(seconds > said + 0.5) & (seconds < said + 1.9)].max() == 0
    np.testing.assert_array_equal(twice.stress(seconds), stress)
    quiet = Spoken(tmp_path / "quiet.npy", (twice.samples // 4).astype(np.int16))
    np.testing.assert_allclose(quiet.stress(seconds), stress, atol=0.1)
    speed = np.diff(twice.stress(np.arange(0, 12, 0.002))) / 0.002
    assert np.abs(speed).max() < 12, "a nod takes .18 s down"
    assert np.abs(np.diff(speed)).max() / 0.002 < 400, "and begins and ends with no speed"


@pytest.mark.parametrize(("fps", "num"), [(25, 1), (30000 / 1001, 7), (60, 40)])
def test_stress_in_pieces_equals_the_whole(twice: Spoken, fps: float, num: int) -> None:
    seconds = _times(twice, fps)
    pieces = [twice.stress(seconds[start : start + num]) for start in range(0, len(seconds), num)]
    np.testing.assert_array_equal(np.concatenate(pieces), twice.stress(seconds))


def test_stress_of_a_stream_equals_the_files(twice: Spoken) -> None:
    heard = []
    for span, window in live_windows(twice.samples, Fraction(FPS), range(len(_times(twice)) - 3), 3):
        from_window = np.arange(span.first, span.stop) / FPS - window.first_row / ROWS_PER_SECOND
        heard.append(stressed_syllables(window.samples, window.level, from_window).curve())
    live = np.concatenate(heard)
    np.testing.assert_allclose(live, twice.stress(_times(twice))[: len(live)], atol=0.1)  # but for how loud it is
