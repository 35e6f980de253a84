"""The speech networks, and a voice for them."""

import wave
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from models.speech.features import FeatureBlock, SpeechFeatures, measure_level
from models.speech.speech_to_mouth import MouthBlock, SpeechToMouth

RATE = 16000
Samples = NDArray[np.int16]
Extract = Callable[..., list[FeatureBlock]]
Predict = Callable[[Samples], MouthBlock]


@pytest.fixture(scope="session")
def features() -> SpeechFeatures:
    return SpeechFeatures(num_threads=1, device="cpu")


@pytest.fixture(scope="session")
def mouth() -> SpeechToMouth:
    return SpeechToMouth(num_threads=1)


@pytest.fixture(scope="session")
def voice(sample_speech: Path) -> Samples:
    with wave.open(str(sample_speech), "rb") as file:
        assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (RATE, 1, 2)
        return np.frombuffer(file.readframes(file.getnframes()), np.int16)


@pytest.fixture
def extract(tmp_path: Path, features: SpeechFeatures) -> Extract:
    """Returns the features of samples in these stretches, or in all of them."""

    def extract(samples: Samples, stretches: list[tuple[float, float]] | None = None) -> list[FeatureBlock]:
        path = tmp_path / "speech.npy"
        np.save(path, samples)
        level = measure_level(path)
        return [features.extract(path, level, *s) for s in stretches or [(0.0, len(samples) / RATE)]]

    return extract


@pytest.fixture
def predict(extract: Extract, mouth: SpeechToMouth) -> Predict:
    """Returns the mouth of samples at 25 frames a second."""

    def predict(samples: Samples) -> MouthBlock:
        (block,) = extract(samples)
        return mouth.predict(block, Fraction(25), 0, max(1, len(samples) * 25 // RATE))

    return predict
