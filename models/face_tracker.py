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

_FOLLOW: Final = 0.5  # share of the way that the region goes to the newest points: less jitter than all of it
_MAX_GROWTH: Final = 1.4  # a region that changes more than this between frames has slipped off the face

# A lost face is looked for at once, then every third frame, and after a second or so every tenth.
_SEARCH_EVERY: Final = 3
_SEARCH_EVERY_LATE: Final = 10
_LATE_FRAMES: Final = 30
_FIRST_SEARCH_EVERY: Final = 5  # before the face has been seen for the first time

_NEAR: Final = 1.5  # a lost face is looked for within this many face sizes of where it was
_MAX_SIZE_CHANGE: Final = 1.6


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
        is_start = state is None
        points, present = [], []
        for frame in frames:
            current = self._step(frame, colour, choice, current, is_start)
            points.append(np.zeros((NUM_POINTS, 3), np.float32) if current.points is None else current.points)
            present.append(current.region is not None)
        if not points:
            raise ValueError("Expected at least one frame, got none.")
        return RawLandmarks(np.stack(points), np.array(present)), current

    def _step(
        self, frame: Planes, colour: ColourTags, choice: FaceChoice, state: TrackState, is_start: bool
    ) -> TrackState:
        if state.region is not None:
            points, presence = self._finder.landmarks(frame, colour, state.region)
            fresh = LandmarkRegion.of_points(points)
            growth = fresh.side / state.region.side
            if presence > MIN_PRESENCE and 1 / _MAX_GROWTH < growth < _MAX_GROWTH:
                return replace(state, region=state.region.mix(fresh, _FOLLOW), points=points)
            state = replace(state, region=None, num_lost=0)
        if state.points is None:
            return self._first_search(frame, colour, choice, state, is_start)
        return self._search_again(frame, colour, state, state.points)

    def _first_search(
        self, frame: Planes, colour: ColourTags, choice: FaceChoice, state: TrackState, is_start: bool
    ) -> TrackState:
        waited = replace(state, num_lost=state.num_lost + 1)
        if state.num_lost % _FIRST_SEARCH_EVERY:
            return waited
        face, seen = self._finder.find(frame, colour, choice)
        if face is not None:
            return TrackState(face.region, face.points, 0, len(seen) == 1)
        if seen and is_start:
            raise FaceNotFoundError(f"Expected the face {str(choice)!r}, found {_list_faces(seen)}.")
        return waited

    def _search_again(
        self, frame: Planes, colour: ColourTags, state: TrackState, lost: NDArray[np.float32]
    ) -> TrackState:
        waited = replace(state, num_lost=state.num_lost + 1)
        late = state.num_lost >= _LATE_FRAMES
        if state.num_lost % (_SEARCH_EVERY_LATE if late else _SEARCH_EVERY):
            return waited
        face = self._near(frame, colour, lost)
        if face is None and late and state.was_alone:
            face = _only_like(self._finder.find_all(frame, colour), lost)
        return waited if face is None else replace(state, region=face.region, points=face.points, num_lost=0)

    def _near(self, frame: Planes, colour: ColourTags, lost: NDArray[np.float32]) -> FoundFace | None:
        """The face most like the lost one around where that was, or None."""
        box = box_of_points(lost, 1.0)
        height, width = frame.y.shape
        reach = (_NEAR + 0.5) * box.size
        x0, y0 = (int(max(0.0, c - reach)) // 2 * 2 for c in (box.center_x, box.center_y))
        x1 = int(min(width, box.center_x + reach)) // 2 * 2
        y1 = int(min(height, box.center_y + reach)) // 2 * 2
        if x1 - x0 < 2 or y1 - y0 < 2:
            return None
        faces = self._finder.find_in(frame, colour, Window(x0, y0, x1 - x0, y1 - y0))
        alike = [(_distance(face, lost), face) for face in faces if _is_like(face, lost)]
        distance, best = min(alike, key=lambda pair: pair[0], default=(0.0, None))
        return best if distance <= _NEAR else None


def _distance(face: FoundFace, lost: NDArray[np.float32]) -> float:
    """Distance of two faces in sizes of the lost one."""
    box = box_of_points(lost, 1.0)
    return float(np.hypot(face.box.center_x - box.center_x, face.box.center_y - box.center_y)) / box.size


def _is_like(face: FoundFace, lost: NDArray[np.float32]) -> bool:
    change = face.box.size / box_of_points(lost, 1.0).size
    return 1 / _MAX_SIZE_CHANGE < change < _MAX_SIZE_CHANGE


def _only_like(faces: list[FoundFace], lost: NDArray[np.float32]) -> FoundFace | None:
    """The face of a frame that shows one alone, if it is like the lost one."""
    return faces[0] if len(faces) == 1 and _is_like(faces[0], lost) else None


def _list_faces(faces: list[FoundFace]) -> str:
    boxes = enumerate(face.box for face in faces)
    places = [f"{i}: {box.size:.0f} pixels at ({box.center_x:.0f}, {box.center_y:.0f})" for i, box in boxes]
    return f"{len(faces)} face{'s' * (len(faces) != 1)} ({'; '.join(places)})"
