"""What the listener heard of some output frames, kept once a row, and the windows that the network is given of it.

Neighbouring windows share almost all of their rows, so rows travel and windows are laid out where they are needed.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from math import floor
from typing import Final, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from models.engines.contract import FrameSpan
from models.engines.ultralight.variant import Hears, Variant
from models.speech.activity import speech_activity
from models.speech.level import SpeechLevel

MAX_FRAMES: Final = 16
"""Widest window of any generation, in video frames."""


class RowGrid(NamedTuple):
    """How the rows of one kind of features stand in time.

    Attributes:
        per_second: Rows a second; row r stands at r / per_second seconds.
        step: Rows from one member of a window to the next.
        per_frame: Members for each video frame of the window.
    """

    per_second: int
    step: int
    per_frame: int


# HuBERT: two rows of 20 ms for a frame, as training has 25 fps. WeNet: one chunk for a frame, as training has 20 fps
# (README.md); it may start at any frame of the filter bank, 10 ms apart, so that at other rates the sound still lies
# where the frame does.
GRIDS: Final[dict[Hears, RowGrid]] = {"hubert": RowGrid(50, 1, 2), "wenet": RowGrid(100, 5, 1)}


@dataclass(frozen=True)
class HeardRows:
    """T output frames and the rows around them.

    Attributes:
        hears: Kind of features.
        centres: (T,) int64 row at which each frame stands.
        ids: (R,) int64 ascending: which rows these are.
        rows: (R, K) float32, K = 1024 for HuBERT, 16 x 512 for WeNet.
        gate: (T,) float32: 1 in speech, 0 in silence, between them while fading.
    """

    hears: Hears
    centres: NDArray[np.int64]
    ids: NDArray[np.int64]
    rows: NDArray[np.float32]
    gate: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.centres)

    def slice(self, start: int, stop: int) -> Self:
        """Return frames [start, stop) with copies of the rows that any window of theirs holds."""
        centres = self.centres[start:stop].copy()
        kept = np.isin(self.ids, window_ids(self.hears, centres, MAX_FRAMES))
        return type(self)(self.hears, centres, self.ids[kept], self.rows[kept], self.gate[start:stop].copy())

    def windows(self, variant: Variant) -> NDArray[np.float32]:
        """Lay out what the network hears.

        Before the start and after the end of the sound stand zeros, as face_utils.py (`gather_audio_window`) has it.

        Returns:
            (T, C, H, W) float32, see `Variant.audio_shape`.
        """
        ids = window_ids(self.hears, self.centres, variant.num_frames)
        place = np.searchsorted(self.ids, ids).clip(0, max(len(self.ids) - 1, 0))
        windows = np.zeros((*ids.shape, self.rows.shape[1]), np.float32)
        if len(self.ids):
            is_there = self.ids[place] == ids
            windows[is_there] = self.rows[place[is_there]]
        return windows.reshape(len(ids), *variant.audio_shape)


def frame_rows(hears: Hears, span: FrameSpan) -> NDArray[np.int64]:
    """Return (T,) the row nearest to each frame of the span."""
    per_second = GRIDS[hears].per_second
    frames = range(span.first, span.stop)
    return np.array([floor(Fraction(frame * per_second) / span.fps + Fraction(1, 2)) for frame in frames], np.int64)


def window_ids(hears: Hears, centres: NDArray[np.int64], num_frames: int) -> NDArray[np.int64]:
    """Return (T, W) rows of the windows: half of the video frames before each frame, itself and the rest after it.

    Frames i - 4 to i + 3 of anliyuan/Ultralight-Digital-Human (face_utils.py), i - 8 to i + 7 of lipku/LiveTalking
    (ultralight/audio2feature.py).
    """
    grid = GRIDS[hears]
    members = np.arange(grid.per_frame * num_frames, dtype=np.int64) - grid.per_frame * num_frames // 2
    return centres[:, None] + grid.step * members


def wanted_ids(hears: Hears, span: FrameSpan, num_rows: int) -> NDArray[np.int64]:
    """Return ascending all rows in [0, num_rows) that windows of the span can hold."""
    ids = np.unique(window_ids(hears, frame_rows(hears, span), MAX_FRAMES))
    return ids[(ids >= 0) & (ids < num_rows)]


def frame_gate(samples: NDArray[np.int16], level: SpeechLevel, span: FrameSpan) -> NDArray[np.float32]:
    """Return (T,) the gate of the row nearest to each frame; nobody speaks after the end of the file."""
    rows = frame_rows("hubert", span)  # 20 ms apart as those of the gate
    inside = rows.clip(0, level.num_rows - 1)
    gate = speech_activity(samples, level, int(inside[0]), int(inside[-1]) + 1).gate[inside - inside[0]]
    return np.where(rows == inside, gate, 0).astype(np.float32)


def num_job_samples(num_samples: int, span: FrameSpan, sample_rate: int) -> int:
    """Return the samples of the whole job: those of the file, then silence until the end of the last frame."""
    return max(num_samples, -floor(-span.total * sample_rate / span.fps))
