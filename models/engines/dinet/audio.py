"""DINet's audio features: a window for each output frame, and speech activity."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.engines.protocol import FrameSpan
from models.speech.activity import speech_activity
from models.speech.level import ROWS_PER_SECOND, SpeechLevel, open_measured_speech


@dataclass(frozen=True)
class DinetFeatures:
    """The features of T output frames.

    Attributes:
        windows: (T, C, W) float32, C numbers of W rows around each frame.
        gate: (T,) float32: 1 in speech, 0 in silence, between them while fading.
    """

    windows: NDArray[np.float32]
    gate: NDArray[np.float32]


def open_measured(speech: Path, level: SpeechLevel) -> tuple[NDArray[np.int16], Hashable]:
    """Open a speech file; return its (N,) int16 samples and a value that identifies the file.

    Raises:
        MediaError: It is not the file that was measured.
    """
    samples = open_measured_speech(speech, level)
    stat = speech.stat()
    return samples, (str(speech), stat.st_ino, stat.st_mtime_ns, stat.st_size)


def gate_of_frames(samples: NDArray[np.int16], level: SpeechLevel, span: FrameSpan) -> NDArray[np.float32]:
    """Say in which frames of `span` there is speech, (T,) float32; 0 past the end of the file."""
    frames = np.arange(span.first, span.stop)
    above, below = 2 * ROWS_PER_SECOND * span.fps.denominator, 2 * span.fps.numerator
    rows = (frames * above + span.fps.numerator) // below  # the nearest 20 ms
    inside = rows.clip(max=level.num_rows - 1)
    gate = speech_activity(samples, level, int(inside[0]), int(inside[-1]) + 1).gate[inside - inside[0]]
    return np.where(rows > inside, 0, gate).astype(np.float32)
