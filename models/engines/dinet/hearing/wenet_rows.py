"""Which rows of the speech encoder a frame hears, and which pieces of the file the encoder is run on.

The encoder makes one row of every four mel frames (two convolutions of 3 with stride 2, no padding): row r sees mel
frames 4 r to 4 r + 6, and F mel frames make ((F - 1) // 2 - 1) // 2 rows. A frame hears the 20 rows around its time;
with the 0.4 s of silence ahead of the file, frame i at 25 fps hears rows i to i + 19.

HeyGem runs the encoder on pieces of 35 s with nothing shared between them, which costs a row at each border, and
stretches the rows that come out over all frames of the job. `ExactChunks` does the same. `SharedContext` keeps every
row at its own time and lets each piece hear 5 s to either side, so that no border is heard; the twelve blocks of
the encoder reach 12 x 7 rows, 3.4 s, through their convolutions.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from media.audio import SPEECH_SAMPLE_RATE
from models.engines.contract import FrameSpan
from models.engines.dinet.hearing.wenet_mel import MEL_HOP, PADDING_SAMPLES, mel_of_chunk, mel_of_file
from models.speech.level import cut_speech

WINDOW_ROWS: Final = 20
"""Rows that a frame hears: 0.8 s."""
_ROWS_PER_SECOND = 25
_PIECE_ROWS, _CONTEXT_ROWS = 625, 125
_CHUNK_SAMPLES, _SHORT_SAMPLES, _SHORT_ROWS = 560_000, 16_000, 25


def num_rows_of(num_mel: int) -> int:
    """Return how many rows the encoder makes of `num_mel` mel frames."""
    return max(0, ((num_mel - 1) // 2 - 1) // 2)


@dataclass(frozen=True)
class Piece:
    """One run of the encoder.

    Attributes:
        first: First row that it is run for.
        stop: Row after the last.
        mel: (F, 80) float32 what it is given.
        offset: How many of its rows come before `first`.
    """

    first: int
    stop: int
    mel: NDArray[np.float32]
    offset: int


class RowPlan(Protocol):
    """How the rows of one job come about."""

    @property
    def num_rows(self) -> int:
        """Rows there are."""
        ...

    def first_rows(self, frames: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the first of the 20 rows that each of (T,) frames hears."""
        ...

    def piece_of(self, row: int) -> int:
        """Return the piece that makes a row."""
        ...

    def piece_start(self, index: int) -> int:
        """Return the first row that a piece makes."""
        ...

    def piece(self, samples: NDArray[np.int16], index: int) -> Piece:
        """Return what the encoder is run on for a piece."""
        ...


@dataclass(frozen=True)
class SharedContext:
    """Rows at their own time, pieces that hear their surroundings.

    Attributes:
        num_rows: Rows of the file and the job.
        fps: Frames a second of the job.
    """

    num_rows: int
    fps: Fraction

    @classmethod
    def of(cls, num_samples: int, span: FrameSpan) -> SharedContext:
        """Plan a job over a file of `num_samples`; past its end there is silence."""
        in_file = num_rows_of(1 + (num_samples + 2 * PADDING_SAMPLES) // MEL_HOP)
        last = cls(0, span.fps).first_rows(np.array([span.total - 1]))[0]
        return cls(max(in_file, int(last) + WINDOW_ROWS), span.fps)

    def first_rows(self, frames: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the first of the 20 rows that each of (T,) frames hears: the nearest in time."""
        above, below = 2 * _ROWS_PER_SECOND * self.fps.denominator, 2 * self.fps.numerator
        rows: NDArray[np.int64] = (frames * above + self.fps.numerator) // below
        return rows

    def piece_of(self, row: int) -> int:
        """Return the piece that makes a row."""
        return row // _PIECE_ROWS

    def piece_start(self, index: int) -> int:
        """Return the first row that a piece makes."""
        return index * _PIECE_ROWS

    def piece(self, samples: NDArray[np.int16], index: int) -> Piece:
        """Return what the encoder is run on: a piece with its surroundings."""
        first, stop = index * _PIECE_ROWS, min((index + 1) * _PIECE_ROWS, self.num_rows)
        left, right = max(0, first - _CONTEXT_ROWS), min(self.num_rows, stop + _CONTEXT_ROWS)
        return Piece(first, stop, mel_of_file(samples, 4 * left, 4 * right + 3), first - left)


@dataclass(frozen=True)
class ExactChunks:
    """Rows as HeyGem makes and stretches them (wenet/compute_ctc_att_bnf.py).

    Attributes:
        num_rows: Rows of all chunks.
        num_frames: Frames of the speech.
        num_padded: Samples with the silence at both ends.
    """

    num_rows: int
    num_frames: int
    num_padded: int

    @classmethod
    def of(cls, num_samples: int, span: FrameSpan) -> ExactChunks:
        """Plan a job over a file of `num_samples`; past its end the last window holds on."""
        num_padded = num_samples + 2 * PADDING_SAMPLES
        full, tail = divmod(num_padded, _CHUNK_SAMPLES)
        num_rows = full * _chunk_rows(_CHUNK_SAMPLES) + (_chunk_rows(tail) if tail else 0)
        return cls(num_rows, int(num_samples * span.fps / SPEECH_SAMPLE_RATE), num_padded)

    def first_rows(self, frames: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the first of the 20 rows that each of (T,) frames hears, in HeyGem's floating point."""
        last = max(1, self.num_frames - 1)  # one frame alone hears the start
        stretch = frames.clip(0, max(0, self.num_frames - 1)) / last * max(0, self.num_rows - WINDOW_ROWS)
        return stretch.astype(np.int64)

    def piece_of(self, row: int) -> int:
        """Return the chunk that makes a row."""
        return row // _chunk_rows(_CHUNK_SAMPLES)

    def piece_start(self, index: int) -> int:
        """Return the first row that a chunk makes."""
        return index * _chunk_rows(_CHUNK_SAMPLES)

    def piece(self, samples: NDArray[np.int16], index: int) -> Piece:
        """Return what the encoder is run on: 35 s, or the rest."""
        start = index * _CHUNK_SAMPLES
        size = min(_CHUNK_SAMPLES, self.num_padded - start)
        filled = size + _SHORT_SAMPLES if size < _SHORT_SAMPLES else size
        sound = np.zeros(filled, np.float32)
        sound[:size] = cut_speech(samples, start - PADDING_SAMPLES, start - PADDING_SAMPLES + size)
        first = self.piece_start(index)
        return Piece(first, first + _chunk_rows(size), mel_of_chunk(sound), 0)


def _chunk_rows(num_samples: int) -> int:
    if num_samples < _SHORT_SAMPLES:
        return max(0, num_rows_of(1 + (num_samples + _SHORT_SAMPLES) // MEL_HOP) - _SHORT_ROWS)
    return num_rows_of(1 + num_samples // MEL_HOP)
