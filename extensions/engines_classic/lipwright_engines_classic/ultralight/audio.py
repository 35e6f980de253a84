"""Audio features of some output frames, the windows of them that the network gets, and the plan of the frames.

Neighbouring windows share almost all of their rows. So each row is stored and sent once, and windows are built where
they are needed.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import floor
from typing import Final, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from lipwright_engines_classic.ultralight.weights import AudioKind, Variant
from models.engines.paste.crop import BoxChunk
from models.engines.protocol import FrameSpan

MAX_FRAMES: Final = 16
"""Widest window of any generation, in video frames."""


class RowGrid(NamedTuple):
    """Timing of the rows of one kind of features."""

    per_second: int  # rows per second; row r is at r / per_second seconds
    step: int  # rows from one member of a window to the next
    per_frame: int  # members for each video frame of the window


# HuBERT: two rows of 20 ms per frame, because training used 25 fps. WeNet: one chunk per frame, because training used
# 20 fps (README.md); a chunk may start at any frame of the filter bank, 10 ms apart, so that audio and frame stay
# aligned at other rates.
GRIDS: Final[dict[AudioKind, RowGrid]] = {"hubert": RowGrid(50, 1, 2), "wenet": RowGrid(100, 5, 1)}


@dataclass(frozen=True)
class UltralightFeatures:
    """T output frames and the rows around them."""

    audio_kind: AudioKind  # kind of features
    centres: NDArray[np.int64]  # (T,) row at which each frame is
    ids: NDArray[np.int64]  # (R,) ascending: which rows these are
    rows: NDArray[np.float32]  # (R, K), K = 1024 for HuBERT, 16 x 512 for WeNet
    gate: NDArray[np.float32]  # (T,) 1 in speech, 0 in silence, between them while fading

    def __len__(self) -> int:
        return len(self.centres)

    def slice(self, start: int, stop: int) -> Self:
        """Return frames [start, stop) with copies of the rows in their windows."""
        centres = self.centres[start:stop].copy()
        kept = np.isin(self.ids, window_ids(self.audio_kind, centres, MAX_FRAMES))
        return type(self)(self.audio_kind, centres, self.ids[kept], self.rows[kept], self.gate[start:stop].copy())

    def windows(self, variant: Variant) -> NDArray[np.float32]:
        """Arrange features for the network.

        Rows before the start and after the end of the sound are zeros, as in face_utils.py (`gather_audio_window`).

        Returns:
            (T, C, H, W) float32, see `Variant.audio_shape`.
        """
        ids = window_ids(self.audio_kind, self.centres, variant.num_frames)
        place = np.searchsorted(self.ids, ids).clip(0, max(len(self.ids) - 1, 0))
        windows = np.zeros((*ids.shape, self.rows.shape[1]), np.float32)
        if len(self.ids):
            is_there = self.ids[place] == ids
            windows[is_there] = self.rows[place[is_there]]
        return windows.reshape(len(ids), *variant.audio_shape)


def frame_rows(audio_kind: AudioKind, span: FrameSpan) -> NDArray[np.int64]:
    """Return (T,) the row nearest to each frame of the span."""
    return span.nearest_rows(GRIDS[audio_kind].per_second)


def window_ids(audio_kind: AudioKind, centres: NDArray[np.int64], num_frames: int) -> NDArray[np.int64]:
    """Return (T, W) rows of the windows: half of the video frames before each frame, itself and the rest after it.

    Frames i - 4 to i + 3 of anliyuan/Ultralight-Digital-Human (face_utils.py), i - 8 to i + 7 of lipku/LiveTalking
    (ultralight/audio2feature.py).
    """
    grid = GRIDS[audio_kind]
    members = np.arange(grid.per_frame * num_frames, dtype=np.int64) - grid.per_frame * num_frames // 2
    return centres[:, None] + grid.step * members


def wanted_ids(audio_kind: AudioKind, span: FrameSpan, num_rows: int) -> NDArray[np.int64]:
    """Return all rows in [0, num_rows) that windows of the span can contain, ascending."""
    ids = np.unique(window_ids(audio_kind, frame_rows(audio_kind, span), MAX_FRAMES))
    return ids[(ids >= 0) & (ids < num_rows)]


def num_job_samples(num_samples: int, span: FrameSpan, sample_rate: int) -> int:
    """Return the samples of the whole job: the file, then silence until the end of the last frame."""
    return max(num_samples, -floor(-span.total * sample_rate / span.fps))


CENTRES, IDS, ROWS = "centres", "ids", "rows"
"""Names in a chunk: of the faces' rows, of the rows that are there, and of what they hold; see `UltralightFeatures`."""


@dataclass(frozen=True)
class UltralightPlan:
    """T output frames; implements `models.engines.protocol.Plan`."""

    first_frame: int  # output frame of row 0
    source_index: NDArray[np.int32]  # (T,) source frame that is shown
    features: UltralightFeatures  # the rows around them, each once

    def __post_init__(self) -> None:
        if len(self.features) != len(self.source_index):
            raise ValueError(f"Expected sound for {len(self.source_index)} frames, got {len(self.features)}.")

    def __len__(self) -> int:
        return len(self.source_index)

    def slice(self, start: int, stop: int) -> UltralightPlan:
        """Return frames [start, stop) as copies, so that sending a slice does not send everything."""
        return UltralightPlan(
            self.first_frame + start, self.source_index[start:stop].copy(), self.features.slice(start, stop)
        )


def features_by_face(chunk: BoxChunk, audio_kind: AudioKind) -> UltralightFeatures:
    """Return the features of the N faces of a chunk."""
    centres = chunk.arrays[CENTRES]
    return UltralightFeatures(
        audio_kind, centres, chunk.extra[IDS], chunk.extra[ROWS], np.ones(len(centres), np.float32)
    )
