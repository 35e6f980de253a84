"""An avatar made of arithmetic, and speech made of tones."""

from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from lipwright_engines_classic.dinet.engine import DinetEngine
from models.avatar.avatar import Avatar
from models.engines.protocol import EngineSettings, FrameSpan
from models.speech.level import SpeechLevel, measure_level
from tests.unit.models.engines.brought import Brought
from tests.unit.models.engines.paste.face_scene import make_avatar, make_track


def make_talker(folder: Path) -> Avatar:
    """The avatar of the scene with a mouth that opens and closes."""
    return make_avatar(folder, make_track(opening=0.05, fps=4.0))


def make_engine(options: dict[str, Any] | None = None, **paths: Path) -> DinetEngine:
    return DinetEngine(EngineSettings(Brought(paths), options or {}))


def make_speech(folder: Path, num_samples: int) -> tuple[Path, SpeechLevel]:
    """A speech file of tones that come and go, with noise."""
    time = np.arange(num_samples) / 16000
    tones = np.sin(2 * np.pi * 180 * time) + 0.5 * np.sin(2 * np.pi * 1100 * time * (1 + 0.1 * np.sin(time)))
    sound = 6000 * tones * np.sin(2.5 * time) ** 2 + np.random.default_rng(1).normal(0, 40, num_samples)
    path = folder / f"speech{num_samples}.npy"
    np.save(path, sound.astype(np.int16))
    return path, measure_level(path)


def spans(total: int, sizes: Iterable[int], fps: Fraction = Fraction(25)) -> Iterator[FrameSpan]:
    first = 0
    for size in sizes:
        yield FrameSpan(fps, first, size, total)
        first += size
