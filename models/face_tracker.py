"""Follows one face through the frames of a source, chunk by chunk."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from errors import FaceNotFoundError
from media.planes import Planes
from media.probe import ColourTags
from models.face_choice import FaceChoice
from models.face_detection import Window
from models.face_finder import FaceFinder, FoundFace, box_of_points
from models.face_landmarks import MIN_PRESENCE, LandmarkRegion
from models.face_points import NUM_POINTS
from models.onnx_session import Device

_FOLLOW = 0.5  # share of the way that the region goes to the newest points: less jitter than all of it
_MAX_GROWTH = 1.4  # a region that changes more than this between frames has slipped off the face

# A lost face is looked for at once, then every third frame, and after a second or so every tenth.
_SEARCH_EVERY: Final = 3
_SEARCH_EVERY_LATE: Final = 10
_LATE_FRAMES: Final = 30
_FIRST_SEARCH_EVERY: Final = 5  # before the face has been seen for the first time

_NEAR = 1.5  # a lost face is looked for within this many face sizes of where it was
_MAX_SIZE_CHANGE = 1.6
_MAX_UNLIKENESS = 0.075


class RawLandmarks(NamedTuple):
    """Landmarks of T frames as the network gives them."""

    points: NDArray[np.float32]  # (T, 468, 3) frame pixels; frames without the face repeat the last known points
    present: NDArray[np.bool_]  # (T,)

    @classmethod
    def concatenate(cls, chunks: Sequence[RawLandmarks]) -> RawLandmarks:
        """Joins chunks in order."""
        return cls(np.concatenate([c.points for c in chunks]), np.concatenate([c.present for c in chunks]))


@dataclass(frozen=True)
class TrackState:
    """What tracking continues from: a few kilobytes, picklable."""

    region: LandmarkRegion | None  # where the face is expected; None while it is lost or not found yet
    points: NDArray[np.float32] | None  # (468, 3) last known points; None before the first
    num_lost: int  # frames since the face was last seen, or since the start
    was_alone: bool  # no other face was seen when this one was found


class FaceTracker:
    """Detects the chosen face once, then takes each frame's region from the points of the frame before.

    Args:
        num_threads: CPU threads of one network call.
        device: "cpu" or "cuda".
    """

    def __init__(self, num_threads: int, device: Device) -> None:
        self._finder = FaceFinder(num_threads, device)

    def find(self, frame: Planes, colour: ColourTags, choice: FaceChoice) -> FoundFace | None:
        """Returns the chosen face of one frame, or None where there is none."""
        return self._finder.find(frame, colour, choice)[0]

    def track_chunk(
        self, frames: Iterable[Planes], colour: ColourTags, choice: FaceChoice, state: TrackState | None
    ) -> tuple[RawLandmarks, TrackState]:
        """Finds the points of one face in consecutive frames.

        Chunks give the same as one long run. A lost face is taken up again only near where it was lost and at a
        like size, or, where it has been the only one all along, anywhere; never another face in its stead.

        Args:
            frames: At least one frame, in order.
            colour: Colour description of the frames.
            choice: Which face, where there are several.
            state: What the chunk before returned; None at the first frame of the source.

        Raises:
            FaceNotFoundError: The first frames show faces, but not the chosen one.
        """
        current = state or TrackState(None, None, 0, True)
        points: list[NDArray[np.float32]] = []
        for frame in frames:
            current = self._step(frame, colour, choice, current)
            points.append(np.zeros((NUM_POINTS, 3), np.float32) if current.points is None else current.points)
            present_now = current.region is not None
            points_present.append(present_now)
        return RawLandmarks(np.stack(points), np.array(points_present)), current
