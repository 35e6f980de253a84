"""Tracking results per frame: landmarks, why a frame is left unchanged, and the data to assess them later."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from enum import IntEnum
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lipwright.media.array_files import load_arrays, save_arrays
from models.face.occlusion import NUM_CHROMA_POINTS
from models.geometry.head_frame import NUM_POINTS


class SkipReason(IntEnum):
    """One value for every source frame, kept in `FaceTrack.skip_reason` as uint8.

    Frames with any value but `NONE` are left unchanged. The values are stored in avatar folders.
    """

    NONE = 0  # the mouth is rewritten
    NO_FACE = 1  # the frame has no face that can be tracked
    OTHER_PERSON = 2  # there are faces, but none is reliably that of the chosen person
    TURNED_AWAY = 3  # the head is turned too far to the side or up and down
    COVERED = 4  # something is in front of the mouth
    TOO_SMALL = 5  # the mouth is only a few pixels wide


class RawRow(NamedTuple):
    """One frame, see `RawLandmarks`; `chroma` is None without the face, `points` before its first frame."""

    points: NDArray[np.float32] | None
    reason: SkipReason
    scene: NDArray[np.uint8]
    chroma: NDArray[np.uint8] | None
    likeness: float
    presence: float


class RawLandmarks(NamedTuple):
    """Landmarks of T frames, as returned by the network.

    The other fields are None if there are landmarks but no images: then all frames are one shot, every absent frame has
    no face, and no frame counts as occluded.
    """

    points: NDArray[np.float32]  # (T, 468, 3) frame pixels; frames without the face repeat the last known points
    present: NDArray[np.bool_]  # (T,)
    reasons: NDArray[np.uint8] | None = None  # (T,) `SkipReason`, `NONE` where present
    scenes: NDArray[np.uint8] | None = None  # (T, 864) `models.track.shots.scene_of`
    chroma: NDArray[np.uint8] | None = None  # (T, M, 2) `models.face.occlusion.chroma_of`, 0 where absent
    likeness: NDArray[np.float32] | None = None  # (T,) similarity of the faces that the last search saw, -1 for none
    presence: NDArray[np.float32] | None = None  # (T,) logit of the landmark network, 0 where absent

    @classmethod
    def of_rows(cls, rows: Sequence[RawRow]) -> RawLandmarks:
        """Stack single frames."""
        no_points, no_chroma = np.zeros((NUM_POINTS, 3), np.float32), np.zeros((NUM_CHROMA_POINTS, 2), np.uint8)
        return cls(
            np.stack([no_points if row.points is None else row.points for row in rows]),
            np.array([row.reason == SkipReason.NONE for row in rows]),
            np.array([row.reason for row in rows], np.uint8),
            np.stack([row.scene for row in rows]),
            np.stack([no_chroma if row.chroma is None else row.chroma for row in rows]),
            np.array([row.likeness for row in rows], np.float32),
            np.array([row.presence for row in rows], np.float32),
        )

    def save(self, path: Path) -> None:
        """Write the landmarks as an .npz."""
        save_arrays(path, self)

    @classmethod
    def load(cls, path: Path) -> RawLandmarks:
        """Read what `save` wrote."""
        return cls(**load_arrays(path))

    @classmethod
    def concatenate(cls, chunks: Sequence[RawLandmarks]) -> RawLandmarks:
        """Join chunks in order; either all of them have the optional fields or none has."""
        return cls(
            np.concatenate([chunk.points for chunk in chunks]),
            np.concatenate([chunk.present for chunk in chunks]),
            *(None if any(part is None for part in column) else np.concatenate(column) for column in _rest(chunks)),
        )


def _rest(chunks: Sequence[RawLandmarks]) -> Iterator[tuple[Any, ...]]:
    """The optional fields of the chunks, concatenated one by one."""
    return zip(*(chunk[2:] for chunk in chunks), strict=True)
