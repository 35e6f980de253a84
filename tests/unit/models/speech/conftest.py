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
Extract = Callable[..., FeatureBlock]
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
    """Returns the features of samples, or those from one second to another."""

    def extract(samples: Samples, start: float = 0.0, stop: float | None = None) -> FeatureBlock:
        path = tmp_path / "speech.npy"
        np.save(path, samples)
        return features.extract(path, measure_level(path), start, len(samples) / RATE if stop is None else stop)

    return extract


@pytest.fixture
def predict(extract: Extract, mouth: SpeechToMouth) -> Predict:
    """Returns the mouth of samples at 25 frames a second."""

    def predict(samples: Samples) -> MouthBlock:
        return mouth.predict(extract(samples), Fraction(25), 0, max(1, len(samples) * 25 // RATE))

    return predict
