"""Whisper features of a stretch of speech, and the plan of the rows of them that drive each output frame."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.engines.protocol import FrameSpan
from models.speech.level import ROWS_PER_SECOND

ROWS_PER_FRAME: Final = 10
"""Rows that drive one frame: those of five frames at 25 per second (musetalk/utils/audio_processor.py)."""

# The rows begin this far ahead of the frame: 80 ms, two frames at 25 per second. The published script pads by 2 *
# ceil(50 / fps) rows: 4 from 25 to 49 frames per second, but 6 at 24 and 2 at 60, which shifts the speech by 40 ms from
# the training data, all of which is at 25.
_ROWS_AHEAD = 4


@dataclass(frozen=True)
class WhisperFeatures:
    """Rows [first_row, first_row + R) of a speech file, 20 ms apart, and the gate of the T frames they are for."""

    first_row: int  # number of row 0; row k of the file is at k x 20 ms. Negative: before the file.
    rows: NDArray[np.float32]  # (R, L, C) hidden states: L of them with C channels; zeros before the file
    gate: NDArray[np.float32]  # (T,) 1 in speech, 0 in silence, between them while fading


def first_rows(fps: Fraction, first: int, num: int) -> NDArray[np.int64]:
    """Return the (num,) first rows of the frames from `first` on.

    The published script rounds the frame rate to a whole number first, so that 29.97 frames per second are treated as
    29: after ten seconds the mouth is a third of a second early. Here the rate is exact.
    """
    numbers = np.arange(first, first + num, dtype=np.int64)
    return numbers * ROWS_PER_SECOND * fps.denominator // fps.numerator - _ROWS_AHEAD


@dataclass(frozen=True)
class MuseTalkPlan:
    """Output frames [first_frame, first_frame + T); implements `models.engines.protocol.Plan`.

    Ten rows drive a frame, and neighbours share most of them: each row is sent once, 15 kB per frame at 25 per second,
    where all ten are 77 kB.
    """

    first_frame: int  # output frame of row 0
    source_index: NDArray[np.int32]  # (T,) source frame that is shown
    rows: NDArray[np.float32]  # (R, L, C) rows of the speech, 20 ms apart
    start: NDArray[np.int32]  # (T,) index of each frame's first row

    @classmethod
    def of(cls, features: WhisperFeatures, span: FrameSpan, source_index: NDArray[np.integer]) -> MuseTalkPlan:
        """Plan the T frames of `span`, given their features and (T,) source frames.

        Raises:
            ValueError: The features do not cover the span, or the numbers of frames differ.
        """
        if len(source_index) != span.num:
            raise ValueError(f"Expected {span.num} source frames, got {len(source_index)}.")
        start = first_rows(span.fps, span.first, span.num) - features.first_row
        if start[0] < 0 or start[-1] + ROWS_PER_FRAME > len(features.rows):
            wanted, heard = (int(start[0]), int(start[-1]) + ROWS_PER_FRAME), (0, len(features.rows))
            raise ValueError(f"Expected rows {wanted} of what was heard, got {heard}.")
        return cls(span.first, np.asarray(source_index, np.int32), features.rows, start.astype(np.int32))

    def __len__(self) -> int:
        return len(self.source_index)

    def slice(self, start: int, stop: int) -> MuseTalkPlan:
        """Return frames [start, stop) as copies, with the rows that they need."""
        first = self.start[start:stop]
        low, high = (int(first[0]), int(first[-1]) + ROWS_PER_FRAME) if len(first) else (0, 0)
        return MuseTalkPlan(
            first_frame=self.first_frame + start,
            source_index=self.source_index[start:stop].copy(),
            rows=self.rows[low:high].copy(),
            start=first - np.int32(low),
        )

    def features(self) -> NDArray[np.float32]:
        """Return (T, 10 L, C) float32: the states of a row lie beside each other, the rows one after the other."""
        gathered: NDArray[np.float32] = self.rows[self.start[:, None] + np.arange(ROWS_PER_FRAME)]  # (T, 10, L, C)
        return gathered.reshape(len(self), ROWS_PER_FRAME * self.rows.shape[1], self.rows.shape[2])
