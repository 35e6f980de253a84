"""DINet's audio features: a window for each output frame, and speech activity."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.speech.level import SpeechLevel, open_measured_speech


@dataclass(frozen=True)
class DinetFeatures:
    """The features of T output frames."""

    windows: NDArray[np.float32]  # (T, C, W), C numbers of W rows around each frame
    gate: NDArray[np.float32]  # (T,) 1 in speech, 0 in silence, between them while fading


def open_measured(speech: Path, level: SpeechLevel) -> tuple[NDArray[np.int16], Hashable]:
    """Open a speech file; return its (N,) int16 samples and a value that identifies the file.

    Raises:
        MediaError: It is not the file that was measured.
    """
    samples = open_measured_speech(speech, level)
    stat = speech.stat()
    return samples, (str(speech), stat.st_ino, stat.st_mtime_ns, stat.st_size)
