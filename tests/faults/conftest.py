"""What the fault tests share. Each starts a service of its own, because it harms it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.load import Pair


@pytest.fixture(scope="session")
def portrait_pair(sample_portrait: Path, samples: Path) -> Pair:
    """A still and 1.3 s of speech: 34 frames."""
    return Pair(sample_portrait.read_bytes(), (samples / "speech_short.wav").read_bytes())


@pytest.fixture(scope="session")
def presenter_pair(sample_presenter: Path, sample_speech: Path) -> Pair:
    """A talking presenter and 5 s of speech: 125 frames in two segments."""
    return Pair(sample_presenter.read_bytes(), sample_speech.read_bytes())
