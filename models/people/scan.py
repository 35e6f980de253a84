"""Follows every face in a source, chunk by chunk.

A track is one face in consecutive frames of one shot; which tracks show the same person is decided afterwards, with all
of them known (`models.people.identities`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from lipwright.media.probe import ColourTags
from lipwright.media.yuv_frame import YuvFrame
from models.face.appearance import APPEARANCE_SIZE, STILL_SAME, Person, appearance_of
from models.face.finder import CLEAR_PRESENCE, SAME_FACE_OVERLAP, FaceFinder, FoundFace, box_of_points
from models.face.landmarks import LandmarkRegion
from models.geometry.head_frame import fit_head_pose, pose_degrees
from models.mouth.shape import NUM_CHANNELS, measure
from models.track.shots import NUM_SCENE_VALUES, SceneHistory
from models.track.square_pixels import SquarePixels
from models.track.tracker import CHECK_EVERY, follow, is_turned

MAX_FACES: Final = 8
"""Faces that are followed at the same time, the largest first: bounds the cost of a frame."""

_SEARCH_SECONDS: Final = 0.5  # between searches for new faces; a cut starts one at once
_MIN_SEARCH_FRAMES: Final = 3  # between searches, when a face is lost


class FaceRows(NamedTuple):
    """K observations of faces in T frames, and L appearances of them."""

    frame: NDArray[np.int32]  # (K,) number of the source frame
    track: NDArray[np.int32]  # (K,) number of the track
    box: NDArray[np.float32]  # (K, 4) x0, y0, x1, y1 around the landmarks, in pixels of the source
    degrees: NDArray[np.float32]  # (K, 2) yaw and pitch of the head
    eye_distance: NDArray[np.float32]  # (K,) pixels between the outer eye corners
    mouth: NDArray[np.float32]  # (K, 8) `models.mouth.shape.measure`, without an offset
    appearance_track: NDArray[np.int32]  # (L,) number of the track
    appearance: NDArray[np.float16]  # (L, 240) `models.face.appearance`
    scenes: NDArray[np.uint8]  # (T, 864) `models.track.shots.scene_of`

    @classmethod
    def concatenate(cls, chunks: Sequence[FaceRows]) -> Self:
        """Join chunks in order."""
        return cls(*(np.concatenate(column) for column in zip(*chunks, strict=True)))


class _Face(NamedTuple):
    """A face that is being followed."""

    track: int
    region: LandmarkRegion
    points: NDArray[np.float32]  # (468, 3)
    person: Person  # its appearances in this track
    num_frames: int = 0


@dataclass(frozen=True)
class ScanState:
    """State from which a scan continues: some kilobytes, picklable."""

    faces: tuple[_Face, ...] = ()
    num_tracks: int = 0  # tracks so far
    num_frames: int = 0  # frames since the last search
    scenes: SceneHistory | None = None


class PeopleScanner:
    """Finds and follows all faces."""

    def __init__(self, finder: FaceFinder) -> None:
        self._finder = finder

    def scan_chunk(
        self,
        frames: Iterable[YuvFrame],
        colour: ColourTags,
        first_frame: int,
        fps: float,
        state: ScanState | None,
        pixel_aspect: float = 1.0,
    ) -> tuple[FaceRows, ScanState]:
        """Follow the faces through consecutive frames, at least one.

        The result does not depend on how frames are divided into chunks. `state` is that of the previous chunk; None at
        the first frame of the source.
        """
        current, square = state or ScanState(), SquarePixels(pixel_aspect)
        search_every = max(_MIN_SEARCH_FRAMES, round(_SEARCH_SECONDS * fps))
        rows, width = _Rows(), 0
        for number, frame in enumerate(frames, first_frame):
            width = frame.y.shape[1]
            current = self._step(square.frame(frame), colour, search_every, current, rows)
            rows.add_frame(number, current)
        return rows.finish(square, width), current

    def _step(self, frame: YuvFrame, colour: ColourTags, search_every: int, state: ScanState, rows: _Rows) -> ScanState:
        scenes = SceneHistory.seen(frame, state.scenes)
        is_start = state.scenes is None or scenes.is_cut
        known = () if is_start else state.faces
        faces = _without_overlaps([each for face in known if (each := self._follow(frame, colour, face, rows))])
        num_frames = state.num_frames + 1
        state = replace(state, faces=tuple(faces), num_frames=num_frames, scenes=scenes)
        has_lost = len(faces) < len(known) and num_frames >= _MIN_SEARCH_FRAMES
        if not (is_start or has_lost or num_frames >= search_every):
            return state
        found = self._finder.find_all(frame, colour, CLEAR_PRESENCE)
        boxes = [box_of_points(face.points, 1.0) for face in faces]
        new = [each for each in found if all(each.box.overlap_box(box) <= SAME_FACE_OVERLAP for box in boxes)]
        new = new[: MAX_FACES - len(faces)]
        faces += [_new_face(frame, each, state.num_tracks + index, rows) for index, each in enumerate(new)]
        return replace(state, faces=tuple(faces), num_tracks=state.num_tracks + len(new), num_frames=0)

    def _follow(self, frame: YuvFrame, colour: ColourTags, face: _Face, rows: _Rows) -> _Face | None:
        """Return the face in the next frame; None if it is lost, or someone else is in its place."""
        followed = follow(self._finder, frame, colour, face.region)
        if followed is None:
            return None
        points, _, region = followed
        face = face._replace(points=points, region=region, num_frames=face.num_frames + 1)
        if face.num_frames % CHECK_EVERY or is_turned(points):
            return face
        appearance = appearance_of(frame, points)
        if len(face.person.appearances) and face.person.likeness(appearance) < STILL_SAME:
            return None
        rows.add_appearance(face.track, appearance)
        return face._replace(
            person=face.person.learn(appearance) if len(face.person.appearances) else Person.of(appearance)
        )


def _new_face(frame: YuvFrame, found: FoundFace, track: int, rows: _Rows) -> _Face:
    appearances = Person(np.zeros((0, APPEARANCE_SIZE), np.float16), np.zeros((0, APPEARANCE_SIZE), np.float16))
    if not is_turned(found.points):
        appearance = appearance_of(frame, found.points)
        appearances = Person.of(appearance)
        rows.add_appearance(track, appearance)
    return _Face(track, found.region, found.points, appearances)


def _without_overlaps(faces: list[_Face]) -> list[_Face]:
    """Drop faces whose landmarks have slipped onto another face; the older track is kept."""
    kept: list[_Face] = []
    for face in sorted(faces, key=lambda face: -face.num_frames):
        box = box_of_points(face.points, 1.0)
        if all(box.overlap_box(box_of_points(other.points, 1.0)) <= SAME_FACE_OVERLAP for other in kept):
            kept.append(face)
    return kept


class _Rows:
    """Collects the rows of a chunk."""

    def __init__(self) -> None:
        self._seen: list[tuple[int, int]] = []  # frame, track
        self._points: list[NDArray[np.float32]] = []
        self._appearances: list[tuple[int, NDArray[np.float32]]] = []  # track, appearance
        self._scenes: list[NDArray[np.uint8]] = []

    def add_appearance(self, track: int, appearance: NDArray[np.float32]) -> None:
        self._appearances.append((track, appearance))

    def add_frame(self, number: int, state: ScanState) -> None:
        assert state.scenes is not None
        self._scenes.append(state.scenes.scene)
        for face in state.faces:
            self._seen.append((number, face.track))
            self._points.append(face.points)

    def finish(self, square: SquarePixels, width: int) -> FaceRows:
        """Return the rows; `width` is that of the source's frames."""
        seen = np.array(self._seen, np.int32).reshape(-1, 2)
        points = np.array(self._points, np.float32).reshape(-1, 468, 3)
        degrees: NDArray[np.floating] = np.zeros((0, 2))
        scale: NDArray[np.floating] = np.zeros(0)
        mouth: NDArray[np.floating] = np.zeros((0, NUM_CHANNELS))
        if len(points):
            pose = fit_head_pose(points)
            degrees, scale, mouth = pose_degrees(pose.rotation)[:, :2], pose.scale, measure(pose.to_head(points))
            points = square.points_back(points, width)
        flat = points[..., :2]
        box = np.concatenate([flat.min(1), flat.max(1)], 1) if len(flat) else np.zeros((0, 4))
        return FaceRows(
            frame=seen[:, 0],
            track=seen[:, 1],
            box=box.astype(np.float32),
            degrees=degrees.astype(np.float32),
            eye_distance=scale.astype(np.float32),
            mouth=mouth.astype(np.float32),
            appearance_track=np.array([track for track, _ in self._appearances], np.int32),
            appearance=np.array([appearance for _, appearance in self._appearances], np.float16).reshape(
                -1, APPEARANCE_SIZE
            ),
            scenes=np.array(self._scenes, np.uint8).reshape(-1, NUM_SCENE_VALUES),
        )
