"""What the fault tests share. Each starts a service of its own, because it harms it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.media_files import read_wav, wav_bytes
from tests.faults.load import Pair


@pytest.fixture(scope="session")
def portrait_pair(sample_portrait: Path, samples: Path) -> Pair:
    """A still and 1.3 s of speech: 34 frames."""
    return Pair(sample_portrait.read_bytes(), (samples / "speech_short.wav").read_bytes())


@pytest.fixture(scope="session")
def sample_pair(sample_video: Path, sample_speech: Path) -> Pair:
    """A talking avatar and 5 s of speech: 125 frames in two segments."""
    return Pair(sample_video.read_bytes(), sample_speech.read_bytes())


@pytest.fixture(scope="session")
def long_pair(sample_video: Path, sample_speech: Path) -> Pair:
    """A talking avatar and 15 s of speech: 375 frames in four segments."""
    samples, rate = read_wav(sample_speech)
    return Pair(sample_video.read_bytes(), wav_bytes(np.tile(samples, 3), rate))
