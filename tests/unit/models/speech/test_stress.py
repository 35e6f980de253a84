"""Where speech is stressed: what a head nods with."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from media.audio import SPEECH_SAMPLE_RATE
from models.speech.level import ROWS_PER_SECOND, SpeechLevel, measure_level, open_speech
from models.speech.stream import LOOK_AHEAD_SECONDS, SpeechStream
from models.speech.stress import stressed_syllables

FPS = 25


class Spoken:
    """A speech file."""

    def __init__(self, path: Path, samples: NDArray[np.int16]) -> None:
        np.save(path, samples)
        self.path, self.samples, self.level = path, samples, measure_level(path)

    def stress(self, seconds: NDArray[np.float64], level: SpeechLevel | None = None) -> NDArray[np.float32]:
        return stressed_syllables(open_speech(self.path), level or self.level, seconds).curve()


def _syllables(levels: list[float], gap_seconds: float = 0.25) -> NDArray[np.int16]:
    """Bursts of 160 ms of a voiced sound, after half a second of silence and before one and a half."""
    time = np.arange(int(gap_seconds * SPEECH_SAMPLE_RATE)) / SPEECH_SAMPLE_RATE
    envelope = np.sin(np.pi * (time / 0.16).clip(0, 1)) ** 2
    one = envelope * sum(np.sin(2 * np.pi * 140 * k * time) / k for k in range(1, 8))
    speech = np.concatenate([np.zeros(SPEECH_SAMPLE_RATE // 2), *(level * one for level in levels)])
    return np.asarray(np.pad(speech, (0, 3 * SPEECH_SAMPLE_RATE // 2)) * 9000, np.int16)


@pytest.fixture(scope="module")
def voice(sample_speech: Path, tmp_path_factory: pytest.TempPathFactory) -> Spoken:
    """The sample, a pause of two seconds, and the sample again."""
    import wave

    with wave.open(str(sample_speech)) as file:
        said = np.frombuffer(file.readframes(file.getnframes()), np.int16)
    pause = np.zeros(2 * SPEECH_SAMPLE_RATE, np.int16)
    return Spoken(tmp_path_factory.mktemp("stress") / "speech.npy", np.concatenate([said, pause, said]))


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


def test_stress_does_not_depend_on_loudness(voice: Spoken, tmp_path: Path) -> None:
    quiet = Spoken(tmp_path / "quiet.npy", (voice.samples // 4).astype(np.int16))
    np.testing.assert_allclose(quiet.stress(_times(quiet)), voice.stress(_times(voice)), atol=0.1)


def test_stress_of_real_speech_is_rare_and_not_in_pauses(voice: Spoken) -> None:
    seconds = _times(voice)
    stress = voice.stress(seconds)
    deepest = (stress[1:-1] > stress[:-2]) & (stress[1:-1] >= stress[2:]) & (stress[1:-1] > 0.25)
    assert 3 <= deepest.sum() / 2 <= 8, "in five seconds"
    said = voice.samples.size / SPEECH_SAMPLE_RATE / 2 - 1
    assert stress[(seconds > said + 0.5) & (seconds < said + 1.9)].max() == 0
    np.testing.assert_array_equal(voice.stress(seconds), stress)


@pytest.mark.parametrize(("fps", "num"), [(25, 1), (30000 / 1001, 7), (60, 40)])
def test_stress_in_pieces_equals_the_whole(voice: Spoken, fps: float, num: int) -> None:
    seconds = _times(voice, fps)
    pieces = [voice.stress(seconds[start : start + num]) for start in range(0, len(seconds), num)]
    np.testing.assert_array_equal(np.concatenate(pieces), voice.stress(seconds))


def test_stress_curve_is_smooth(voice: Spoken) -> None:
    seconds = np.arange(0, 12, 0.002)
    speed = np.diff(voice.stress(seconds)) / 0.002
    assert np.abs(speed).max() < 12, "a nod takes .18 s down"
    assert np.abs(np.diff(speed)).max() / 0.002 < 400, "and begins and ends with no speed"


def test_stress_of_a_stream_equals_the_files(voice: Spoken) -> None:
    stream, pushed, heard = SpeechStream(), 0, []
    seconds = _times(voice)
    for start in range(0, len(seconds) - 3, 3):
        part = seconds[start : start + 3]
        stop = part[-1] + 1 / FPS
        known = min(len(voice.samples), int((stop + LOOK_AHEAD_SECONDS) * SPEECH_SAMPLE_RATE))
        stream.push(voice.samples[pushed:known])
        pushed = known
        window = stream.window(part[0], stop)
        from_window = part - window.first_row / ROWS_PER_SECOND
        heard.append(stressed_syllables(window.samples, window.level, from_window).curve())
    live = np.concatenate(heard)
    np.testing.assert_allclose(live, voice.stress(seconds)[: len(live)], atol=0.1)  # but for how loud the voice is
