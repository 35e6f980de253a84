"""Hears speech as mel columns: no network, the same for every engine that hears "mel80"."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from errors import MediaError
from models.engines.contract import FrameSpan
from models.engines.wav2lip.mel import mel_columns
from models.engines.wav2lip.windows import columns_needed
from models.speech.activity import speech_activity
from models.speech.level import ROWS_PER_SECOND, SpeechLevel, open_speech


@dataclass(frozen=True)
class MelBlock:
    """What is heard around the frames of a span.

    Attributes:
        first_column: Number of row 0 of `mel` in the whole file, may be negative.
        mel: (C, 80) float32 columns, 80 a second, -4 to 4.
        gate: (T,) float32: 1 in speech, 0 in silence, between them while fading; one for each frame of the span.
    """

    first_column: int
    mel: NDArray[np.float32]
    gate: NDArray[np.float32]


class MelListener:
    """Computes mel columns of any stretch of a file; satisfies `models.engines.contract.Listener`."""

    def listen(
        self, speech: Path, level: SpeechLevel, span: FrameSpan, should_stop: Callable[[], bool] = lambda: False
    ) -> MelBlock:
        """Return the columns that the frames of `span` need; see `models.engines.contract.Listener.listen`.

        Raises:
            CancelledJobError: `should_stop` said so.
            MediaError: The file is not the one that was measured.
        """
        samples = open_speech(speech)
        if len(samples) != level.num_samples:
            raise MediaError(f"Expected {level.num_samples} samples in {speech.name}, found {len(samples)}.")
        first, stop = columns_needed(span)
        mel = mel_columns(samples, first, stop, should_stop)
        return MelBlock(first, mel, _gate(samples, level, span))


def _gate(samples: NDArray[np.int16], level: SpeechLevel, span: FrameSpan) -> NDArray[np.float32]:
    """(T,) how far somebody speaks when the frames stand; nobody does after the end of the file."""
    last = level.num_rows - 1
    position = np.arange(span.first, span.stop) / float(span.fps) * ROWS_PER_SECOND
    before = np.minimum(position.astype(np.int64), last)
    after = np.minimum(before + 1, last)
    rows = speech_activity(samples, level, int(before[0]), int(after[-1]) + 1).gate
    share = (position - before).clip(0, 1).astype(np.float32)
    gate = rows[before - before[0]] * (1 - share) + rows[after - before[0]] * share
    return np.where(position > last, np.float32(0), gate).astype(np.float32)
