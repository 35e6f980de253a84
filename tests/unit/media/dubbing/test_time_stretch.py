from __future__ import annotations

from pathlib import Path

import librosa
import numpy as np
import pytest
from numpy.typing import NDArray

from lipwright.media.dubbing.time_stretch import stretch

RATE = 16000


@pytest.fixture(scope="module")
def speech(repo_root: Path) -> NDArray[np.float32]:
    samples, _ = librosa.load(repo_root / "samples" / "speech.wav", sr=RATE)
    return samples


def _stretched(samples: NDArray[np.float32], speed: float) -> NDArray[np.float32]:
    blocks = (samples[None, start : start + 4096] for start in range(0, len(samples), 4096))
    stretched: NDArray[np.float32] = np.concatenate(list(stretch(blocks, RATE, speed)), axis=1)
    return np.asarray(stretched[0])


def _pitch(samples: NDArray[np.float32]) -> NDArray[np.float64]:
    return np.asarray(librosa.pyin(samples, fmin=60, fmax=400, sr=RATE)[0])


def _level_db(samples: NDArray[np.float32]) -> float:
    return float(10 * np.log10(np.mean(np.square(samples))))


@pytest.mark.parametrize("speed", [0.8, 1.15, 1.35])
def test_stretch_keeps_pitch_and_level(speech: NDArray[np.float32], speed: float) -> None:
    result = _stretched(speech, speed)
    assert len(result) / RATE == pytest.approx(len(speech) / RATE / speed, abs=0.001)
    before, after = _pitch(speech), _pitch(result)
    there = before[np.clip(np.round(np.arange(len(after)) * speed).astype(int), 0, len(before) - 1)]
    cents = 1200 * np.log2(after / there)
    assert abs(np.nanmedian(cents)) < 10
    assert np.nanpercentile(np.abs(cents), 90) < 60
    assert _level_db(result) == pytest.approx(_level_db(speech), abs=0.3)


def test_stretch_keeps_channels_and_speed_1_changes_nothing(speech: NDArray[np.float32]) -> None:
    assert np.array_equal(_stretched(speech, 1.0), speech)
    block = np.random.default_rng(0).normal(0, 0.1, (2, RATE)).astype(np.float32)
    result = np.concatenate(list(stretch([block], RATE, 1.2)), axis=1)
    assert result.shape[0] == 2
    assert result.shape[1] / RATE == pytest.approx(1 / 1.2, abs=0.001)
    assert list(stretch([], RATE, 1.2)) == []
