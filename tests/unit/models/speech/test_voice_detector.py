"""Voice activity detection in recordings with pauses in silence, noise and music."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks.speakers.pauses import BACKGROUNDS, Background, mixed
from config import MediaLimits
from media.audio import extract_speech
from models.speech.level import measure_level, open_speech
from models.speech.voice_detector import VoiceDetector

RATE = 16000
PHRASES = ((2.0, 4.0), (6.5, 8.0), (9.2, 11.2))
SECONDS = 13.0


@pytest.fixture(scope="module")
def speech(samples: Path, tmp_path_factory: pytest.TempPathFactory) -> NDArray[np.float64]:
    """Phrases of the sample, cut off sharply, between digital silence, at -26 dBFS."""
    path = tmp_path_factory.mktemp("voice") / "speech.npy"
    extract_speech(samples / "speech.wav", path, MediaLimits())
    spoken = open_speech(path).astype(np.float64)
    loud = np.flatnonzero(np.abs(spoken) > 0.05 * np.abs(spoken).max())[0]
    sound = np.zeros(round(SECONDS * RATE))
    for start, stop in PHRASES:
        part = slice(round(start * RATE), round(stop * RATE))
        sound[part] = spoken[loud : loud + part.stop - part.start]
    return np.asarray(sound * 1600 / np.sqrt(np.mean(sound[sound != 0] ** 2)))


def _detected(tmp_path: Path, sound: NDArray[np.float64], step: int = 10**6) -> NDArray[np.bool_]:
    np.save(tmp_path / "speech.npy", sound.clip(-32768, 32767).astype(np.int16))
    level, samples = measure_level(tmp_path / "speech.npy"), open_speech(tmp_path / "speech.npy")
    num_rows = level.num_rows
    parts = [
        VoiceDetector().detect(samples, level, start, min(step, num_rows - start)) for start in range(0, num_rows, step)
    ]
    return np.concatenate(parts)


@pytest.mark.parametrize("background", BACKGROUNDS, ids=lambda each: each.name)
def test_detect_with_pauses_finds_where_speech_begins_and_ends(
    tmp_path: Path, speech: NDArray[np.float64], background: Background
) -> None:
    rows = np.flatnonzero(_detected(tmp_path, mixed(speech, background, 1)))
    parts = np.split(rows, np.flatnonzero(np.diff(rows) > 25) + 1)  # pauses of half a second
    found = np.array([(part[0] / 50, (part[-1] + 1) / 50) for part in parts if len(part) >= 10])
    assert found.shape == (len(PHRASES), 2), found
    assert np.abs(found - np.array(PHRASES)).max() < 0.6
    assert np.median(np.abs(found - np.array(PHRASES))) < 0.15


def test_detect_with_quiet_speech_finds_it(tmp_path: Path, speech: NDArray[np.float64]) -> None:
    loud, quiet = _detected(tmp_path, speech), _detected(tmp_path, speech / 50)
    assert (loud == quiet).mean() > 0.95


def test_detect_in_blocks_returns_the_same(tmp_path: Path, speech: NDArray[np.float64]) -> None:
    noisy = mixed(speech, BACKGROUNDS[2], 1)
    assert (_detected(tmp_path, noisy) == _detected(tmp_path, noisy, 137)).mean() > 0.99
