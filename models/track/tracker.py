"""Follows one person's face through the frames of a source, chunk by chunk."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from lipwright.errors import FaceNotFoundError
from lipwright.media.probe import ColourTags
from lipwright.media.yuv_frame import YuvFrame
from models.face.appearance import APPEARANCE_SIZE, SAME_PERSON, STILL_SAME, Person, appearance_of
from models.face.choice import FaceChoice
from models.face.detection import FaceBox, Window
from models.face.finder import SAME_FACE_OVERLAP, FaceFinder, FoundFace, box_of_points
from models.face.landmarks import MIN_PRESENCE, LandmarkRegion
from models.face.occlusion import chroma_of
from models.geometry.head_frame import fit_head_pose, pose_degrees
from models.track.raw_landmarks import RawLandmarks, RawRow, SkipReason
from models.track.shots import SceneHistory
from models.track.square_pixels import SquarePixels
from models.weights.onnx_session import Device


@dataclass(frozen=True)
class TrackState:
    """State from which tracking continues: a few kilobytes, picklable."""

    region: LandmarkRegion | None  # where the face is expected; None while it is lost or not found yet
    points: NDArray[np.float32] | None  # (468, 3) last known points; None before the first
    person: Person | None  # whose face it is; None before the first
    num_frames: int = 0  # frames followed, or frames since the face was last seen, or since the start
    is_after_cut: bool = False  # the face was lost at a cut, so its last place is unreliable
    reason: SkipReason = SkipReason.NO_FACE  # why the face is missing, while it is
    likeness: float = -1.0  # similarity of the face that the last search saw
    presence: float = 0.0  # logit of the landmark network
    scenes: SceneHistory | None = None  # scenes of the last frames
    num_seen: int = 0  # frames since the start of the source


def see(frame: YuvFrame, state: TrackState) -> TrackState:
    """Compare the frame with the one before; a cut ends tracking and starts a search at once."""
    scenes = SceneHistory.seen(frame, state.scenes)
    state = replace(state, scenes=scenes, num_seen=state.num_seen + 1)
    if scenes.was_no_cut:  # the face is near where it was
        return replace(state, is_after_cut=False)
    if not scenes.is_cut:
        return state
    return replace(state, region=None, num_frames=0, is_after_cut=True, reason=SkipReason.NO_FACE)


def taken_up(state: TrackState, face: FoundFace, person: Person) -> TrackState:
    """Start to follow a found face."""
    state = replace(state, region=face.region, points=face.points, presence=face.presence)
    return replace(state, person=person, num_frames=1, is_after_cut=False)


def row_of(frame: YuvFrame, state: TrackState) -> RawRow:
    """Return the result for the current frame of the state."""
    assert state.scenes is not None
    scene = state.scenes.scene
    if state.region is None or state.points is None:
        return RawRow(state.points, state.reason, scene, None, state.likeness, 0.0)
    chroma = chroma_of(frame, state.points)
    return RawRow(state.points, SkipReason.NONE, scene, chroma, state.likeness, state.presence)


_FOLLOW: Final = 0.5  # weight of the newest points in the region; 1 would jitter more
_MAX_GROWTH: Final = 1.4  # a region that changes more than this between frames has slipped off the face

# A lost face is searched for near its last place at once, then every third frame. After a cut the whole frame is
# searched at once, then every tenth frame.
_SEARCH_EVERY: Final = 3
_SEARCH_ALL_EVERY: Final = 10
_FIRST_SEARCH_EVERY: Final = 5  # before the face has been seen for the first time
_LONG_LOST: Final = 12  # frames after which the place does not identify the person

_NEAR: Final = 1.5  # a lost face is searched for within this many face sizes of its last place
_MAX_SIZE_CHANGE: Final = 1.6

# In an unbroken run the appearance is checked every few frames: faces can merge, or one can hide another.
CHECK_EVERY: Final = 6
_MAX_CHECK_YAW: Final = 32.0  # degrees; the appearance of heads turned farther is unreliable


def is_turned(points: NDArray[np.float32]) -> bool:
    """Whether a head is turned too far to be recognised."""
    return abs(float(pose_degrees(fit_head_pose(points[None]).rotation)[0, 0])) > _MAX_CHECK_YAW


def follow(
    finder: FaceFinder, frame: YuvFrame, colour: ColourTags, region: LandmarkRegion
) -> tuple[NDArray[np.float32], float, LandmarkRegion] | None:
    """Find the face of the previous frame where it is expected.

    Returns:
        Its (468, 3) points in pixels, the presence logit, and where to expect it in the next frame; None if it is lost.
    """
    points, presence = finder.landmarks(frame, colour, region)
    fresh = LandmarkRegion.of_points(points)
    if presence > MIN_PRESENCE and 1 / _MAX_GROWTH < fresh.side / region.side < _MAX_GROWTH:
        return points, presence, region.mix(fresh, _FOLLOW)
    return None


class FaceTracker:
    """Finds the chosen face, then derives each frame's region from the points of the previous frame."""

    def __init__(self, num_threads: int, device: Device) -> None:
        self.finder = FaceFinder(num_threads, device)

    def reference(self, frame: YuvFrame, colour: ColourTags) -> FaceChoice:
        """Return the choice of the person shown in a reference image.

        Raises:
            FaceNotFoundError: The picture does not show exactly one face.
        """
        faces = self.finder.find_all(frame, colour)
        if len(faces) != 1:
            raise FaceNotFoundError(f"Expected one face in the reference picture, found {_list_faces(faces)}.")
        return FaceChoice.like(appearance_of(frame, faces[0].points))

    def track_chunk(
        self,
        frames: Iterable[YuvFrame],
        colour: ColourTags,
        choice: FaceChoice,
        state: TrackState | None,
        pixel_aspect: float = 1.0,
        on_face: Callable[[int, YuvFrame, NDArray[np.float32]], None] = lambda *_: None,
    ) -> tuple[RawLandmarks, TrackState]:
        """Find the points of one face in consecutive frames, at least one.

        The result does not depend on how frames are divided into chunks. After a hard cut, and when the face was lost,
        the tracker searches for it again and continues only if the appearance shows that it is the same person.
        `state` is that of the previous chunk; None at the first frame of the source. `on_face` gets each frame with the
        face: its number in the chunk, the frame with square pixels, and the (468, 3) points.

        Raises:
            FaceNotFoundError: The first frames show faces, but not the chosen one.
        """
        current = state or TrackState(None, None, _known_person(choice))
        is_start, square, width = state is None, SquarePixels(pixel_aspect), 0
        rows = []
        for number, frame in enumerate(frames):
            width = frame.y.shape[1]
            seen = square.frame(frame)
            current = self._step(seen, colour, square.choice(choice, width), see(seen, current), is_start)
            rows.append(row_of(seen, current))
            if current.region is not None and current.points is not None:
                on_face(number, seen, current.points)
        if not rows:
            raise ValueError("Expected at least one frame, got none.")
        raw = RawLandmarks.of_rows(rows)
        return raw._replace(points=square.points_back(raw.points, width)), current

    def _step(
        self, frame: YuvFrame, colour: ColourTags, choice: FaceChoice, state: TrackState, is_start: bool
    ) -> TrackState:
        if state.region is not None:
            if (followed := follow(self.finder, frame, colour, state.region)) is not None:
                points, presence, region = followed
                state = replace(state, region=region, points=points, presence=presence)
                return self._check_person(frame, colour, replace(state, num_frames=state.num_frames + 1), points)
            state = replace(state, region=None, num_frames=0, reason=SkipReason.NO_FACE)
        if state.points is None:
            return self._first_search(frame, colour, choice, state, is_start)
        return self._search_again(frame, colour, state, state.points)

    def _check_person(
        self, frame: YuvFrame, colour: ColourTags, state: TrackState, points: NDArray[np.float32]
    ) -> TrackState:
        """Compare a followed face with its person every few frames; search again if it is someone else."""
        assert state.person is not None
        if state.num_frames % CHECK_EVERY:
            return state
        if is_turned(points):
            return state
        appearance = appearance_of(frame, points)
        if state.person.likeness(appearance) >= STILL_SAME:
            return replace(state, person=state.person.learn(appearance))
        lost = replace(state, region=None, num_frames=1, is_after_cut=True, reason=SkipReason.OTHER_PERSON)
        return self._recognise(frame, self.finder.find_all(frame, colour), state.person, lost)

    def _first_search(
        self, frame: YuvFrame, colour: ColourTags, choice: FaceChoice, state: TrackState, is_start: bool
    ) -> TrackState:
        waited = replace(state, num_frames=state.num_frames + 1)
        if state.num_frames % _FIRST_SEARCH_EVERY:
            return waited
        if state.person is not None:
            place = _first_place(choice) if choice.first_seen and waited.num_seen > choice.first_seen[0] else None
            return self._recognise(frame, self.finder.find_all(frame, colour), state.person, waited, place)
        face, seen = self.finder.find(frame, colour, choice)
        if face is not None:
            others = [appearance_of(frame, other.points) for other in seen if other is not face]
            return taken_up(waited, face, Person.of(appearance_of(frame, face.points), others))
        if seen and is_start:
            raise FaceNotFoundError(f"Expected the face {str(choice)!r}, found {_list_faces(seen)}.")
        return waited

    def _search_again(
        self, frame: YuvFrame, colour: ColourTags, state: TrackState, lost: NDArray[np.float32]
    ) -> TrackState:
        assert state.person is not None
        waited = replace(state, num_frames=state.num_frames + 1)
        if state.num_frames % _SEARCH_EVERY == 0 and not state.is_after_cut:
            face = self._near(frame, colour, lost)
            if face is not None and _may_be(frame, face, state):
                return taken_up(waited, face, state.person)
        everywhere = state.num_frames % _SEARCH_ALL_EVERY == (0 if state.is_after_cut else _SEARCH_ALL_EVERY - 1)
        if not everywhere:
            return waited
        return self._recognise(frame, self.finder.find_all(frame, colour), state.person, waited)

    def _recognise(
        self,
        frame: YuvFrame,
        faces: list[FoundFace],
        person: Person,
        waited: TrackState,
        first_place: FaceBox | None = None,
    ) -> TrackState:
        """Follow the person's face if it is among the faces of a frame with certainty."""
        appearances = [appearance_of(frame, face.points) for face in faces]
        able, is_sure = person.recognise(appearances)
        if not is_sure:  # several look alike: take the one at the known place, if there is one
            able = [i for i in able if _is_where(faces[i], waited.points, first_place)]
        if len(able) == 1:
            return taken_up(waited, faces[able[0]], person.learn(appearances[able[0]]))
        reason = _reason_for(faces)
        best = max((person.likeness(appearance) for appearance in appearances), default=-1.0)
        return replace(waited, reason=reason, likeness=best)

    def _near(self, frame: YuvFrame, colour: ColourTags, lost: NDArray[np.float32]) -> FoundFace | None:
        """The face most similar to the lost one near its last place, or None."""
        box = box_of_points(lost, 1.0)
        height, width = frame.y.shape
        reach = (_NEAR + 0.5) * box.size
        x0, y0 = (int(max(0.0, c - reach)) // 2 * 2 for c in (box.center_x, box.center_y))
        x1 = int(min(width, box.center_x + reach)) // 2 * 2
        y1 = int(min(height, box.center_y + reach)) // 2 * 2
        if x1 - x0 < 2 or y1 - y0 < 2:
            return None
        faces = self.finder.find_in(frame, colour, Window(x0, y0, x1 - x0, y1 - y0))
        alike = [(_distance(face, lost), face) for face in faces if _is_like(face, lost)]
        distance, best = min(alike, key=lambda pair: pair[0], default=(0.0, None))
        return best if distance <= _NEAR else None


def _known_person(choice: FaceChoice) -> Person | None:
    if choice.kind != "like":
        return None
    own, others = (np.array(each, np.float16).reshape(-1, APPEARANCE_SIZE) for each in (choice.numbers, choice.others))
    return Person(own, others)


def _reason_for(faces: list[FoundFace]) -> SkipReason:
    """Why none of the faces of a frame is recognised."""
    if not faces:
        return SkipReason.NO_FACE
    return SkipReason.TURNED_AWAY if all(is_turned(face.points) for face in faces) else SkipReason.OTHER_PERSON


def _may_be(frame: YuvFrame, face: FoundFace, state: TrackState) -> bool:
    """Whether a face near the last place of a lost one can be the same."""
    assert state.person is not None
    limit = STILL_SAME if state.num_frames < _LONG_LOST else SAME_PERSON
    return state.person.likeness(appearance_of(frame, face.points)) >= limit


def _distance(face: FoundFace, lost: NDArray[np.float32]) -> float:
    """Distance of two faces, in sizes of the lost one."""
    box = box_of_points(lost, 1.0)
    return float(np.hypot(face.box.center_x - box.center_x, face.box.center_y - box.center_y)) / box.size


def _is_like(face: FoundFace, lost: NDArray[np.float32]) -> bool:
    change_of_size = face.box.size / box_of_points(lost, 1.0).size
    return 1 / _MAX_SIZE_CHANGE < change_of_size < _MAX_SIZE_CHANGE


def _first_place(choice: FaceChoice) -> FaceBox:
    _, x0, y0, x1, y1 = choice.first_seen
    return FaceBox((x0 + x1) / 2, (y0 + y1) / 2, x1 - x0, y1 - y0, angle=0.0, score=1.0)


def _is_where(face: FoundFace, lost: NDArray[np.float32] | None, first_place: FaceBox | None) -> bool:
    """Whether a face is where the lost one was, or else where the person is seen first."""
    if lost is not None:
        return _is_there(face, lost)
    return first_place is not None and face.box.overlap_box(first_place) > SAME_FACE_OVERLAP


def _is_there(face: FoundFace, lost: NDArray[np.float32]) -> bool:
    """Whether a face has the place and size of the lost one."""
    return _is_like(face, lost) and _distance(face, lost) < 1.0


def _list_faces(faces: list[FoundFace]) -> str:
    boxes = enumerate(face.box for face in faces)
    places = [f"{i}: {box.size:.0f} pixels at ({box.center_x:.0f}, {box.center_y:.0f})" for i, box in boxes]
    return f"{len(faces)} face{'s' * (len(faces) != 1)}" + (f" ({'; '.join(places)})" if places else "")
