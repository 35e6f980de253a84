"""How something is said: accents, phrases, and how live speech compares."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from media.audio import SPEECH_SAMPLE_RATE
from models.speech.level import measure_level
from models.speech.pitch import pitch_semitones
from models.speech.prosody import Prosody, file_prosody, window_prosody
from models.speech.stream import LOOK_AHEAD_SECONDS, SpeechStream

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
        np.testing.assert_allclose(
            np.concatenate([getattr(piece, name) for piece in pieces]), getattr(whole, name), atol=1e-6
        )
    assert {row for piece in pieces for row in piece.ends.tolist()} == set(whole.ends.tolist())


def test_window_prosody_of_a_stream_equals_the_files(tmp_path: Path) -> None:
    said = _voice([0, 120, 140, 180, 120, 0, 0, 0, 150, 120, 90, 0, 0, 0, 0, 130, 0, 0, 0, 0])
    whole = _prosody(said, tmp_path / "speech.npy")
    stream, pushed, heard = SpeechStream(), 0, []
    seconds = np.arange(len(whole.stress)) / FPS
    for start in range(0, len(seconds) - 3, 3):
        part = seconds[start : start + 3]
        stop = part[-1] + 1 / FPS
        known = min(len(said), int((stop + LOOK_AHEAD_SECONDS) * SPEECH_SAMPLE_RATE))
        stream.push(said[pushed:known])
        pushed = known
        heard.append(window_prosody(stream.window(part[0], stop), part))
    live = np.concatenate([piece.speaking for piece in heard])
    np.testing.assert_allclose(live, whole.speaking[: len(live)], atol=0.1)
    assert {row for piece in heard for row in piece.starts.tolist()} == set(whole.starts.tolist())
    ends = {row for piece in heard for row in piece.ends.tolist()}
    assert ends <= set(whole.ends.tolist()) and len(ends) >= 2


def test_file_prosody_of_silence_is_empty(tmp_path: Path) -> None:
    silence = _prosody(np.zeros(48000, np.int16), tmp_path / "silence.npy")
    assert not any(part.any() for part in silence)
