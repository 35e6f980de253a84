"""Finds all faces in a frame, including small ones.

The detector misses faces smaller than about 15 % of the longer side of its input, so it also runs on overlapping tiles.
Tiles cause false positives, so the landmark network must confirm each face.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lipwright.media.probe import ColourTags
from lipwright.media.yuv_frame import YuvFrame
from models.face.choice import FaceChoice
from models.face.detection import MIN_FACE_SHARE, FaceBox, FaceDetector, Window
from models.face.landmarks import MIN_PRESENCE, FaceLandmarker, LandmarkRegion
from models.weights.onnx_session import Device

_TILES: Final = (1, 2, 3)  # tiles are 1/n of the frame and overlap by half
_LARGE_FRAME: Final = 1280  # frames with at least this longer side are also searched in quarters
_LARGE_TILES: Final = (1, 2, 3, 4)
_REFINEMENTS = 2  # landmark passes after the first, each on the region found by the previous one
SAME_FACE_OVERLAP: Final = 0.3  # boxes that overlap more are the same face
# A new face must be clear. Test patterns, upside-down faces and faces with the mouth or one half covered reach a logit
# of 7; blurred faces have 9, normal ones 20.
CLEAR_PRESENCE: Final = 8.0


class FoundFace(NamedTuple):
    """A face that both networks confirm."""

    box: FaceBox  # box around the landmarks
    points: NDArray[np.float32]  # (468, 3) frame pixels
    presence: float  # logit

    @property
    def region(self) -> LandmarkRegion:
        """Region in which to look for the face in the next frame."""
        return LandmarkRegion.of_points(self.points)


class FaceFinder:
    """Runs the detector on tiles and confirms faces with the landmark network."""

    def __init__(self, num_threads: int, device: Device) -> None:
        self._detect = FaceDetector(num_threads, device)
        self.landmarks = FaceLandmarker(num_threads, device)

    def find_all(self, frame: YuvFrame, colour: ColourTags, min_presence: float = MIN_PRESENCE) -> list[FoundFace]:
        """Return all faces with at least this presence logit, largest first."""
        faces: list[FoundFace] = []
        for level in self._levels(frame):
            self._add(faces, frame, colour, tiles(frame, level), min_presence)
        return sorted(faces, key=lambda face: -face.box.size)

    def find(self, frame: YuvFrame, colour: ColourTags, choice: FaceChoice) -> tuple[FoundFace | None, list[FoundFace]]:
        """Return the chosen face or None, and all clear faces found on the way, largest first.

        For `largest`, the search stops at the first tile size with a face; any other choice needs all faces.
        """
        if choice.kind != "largest":
            faces = self.find_all(frame, colour, CLEAR_PRESENCE)
            return _pick(choice, faces), faces
        faces = []
        for level in self._levels(frame):
            self._add(faces, frame, colour, tiles(frame, level), CLEAR_PRESENCE)
            if faces:
                break
        return _pick(choice, faces), faces

    def find_in(self, frame: YuvFrame, colour: ColourTags, window: Window) -> list[FoundFace]:
        """Return the faces in a part of the frame, largest first."""
        faces: list[FoundFace] = []
        self._add(faces, frame, colour, [window], MIN_PRESENCE)
        return sorted(faces, key=lambda face: -face.box.size)

    def _levels(self, frame: YuvFrame) -> tuple[int, ...]:
        return _LARGE_TILES if max(frame.y.shape) >= _LARGE_FRAME else _TILES

    def _add(
        self,
        faces: list[FoundFace],
        frame: YuvFrame,
        colour: ColourTags,
        windows: Iterable[Window],
        min_presence: float,
    ) -> None:
        """Add faces in the windows that are not yet in `faces`."""
        for window in windows:
            for box in self._detect(frame, colour, window):
                if any(known.box.overlap_box(box) > SAME_FACE_OVERLAP for known in faces):
                    continue
                face = self._verify(frame, colour, box)
                if face is None or face.presence <= min_presence:
                    continue
                if all(known.box.overlap_box(face.box) <= SAME_FACE_OVERLAP for known in faces):
                    faces.append(face)

    def _verify(self, frame: YuvFrame, colour: ColourTags, box: FaceBox) -> FoundFace | None:
        region = LandmarkRegion.of_box(box)
        for _ in range(1 + _REFINEMENTS):
            points, presence = self.landmarks(frame, colour, region)
            if presence <= MIN_PRESENCE:
                return None
            region = LandmarkRegion.of_points(points)
        return FoundFace(box_of_points(points, box.score), points, presence)


def tiles(frame: YuvFrame, level: int) -> Iterator[Window]:
    """Yield windows of 1 / `level` of the frame in each direction, overlapping by half; level 1 is the whole frame."""
    height, width = frame.y.shape
    tile_height, tile_width = (max(2, side // level // 2 * 2) for side in (height, width))
    steps = range(2 * level - 1)
    for row in steps:
        for column in steps:
            x = (width - tile_width) * column // max(1, len(steps) - 1) // 2 * 2
            y = (height - tile_height) * row // max(1, len(steps) - 1) // 2 * 2
            yield Window(x, y, tile_width, tile_height)


def box_of_points(points: NDArray[np.floating], score: float) -> FaceBox:
    """Return the upright box around (468, 3) points."""
    (x0, y0), (x1, y1) = points[:, :2].min(0).tolist(), points[:, :2].max(0).tolist()
    angle = LandmarkRegion.of_points(points).angle
    return FaceBox((x0 + x1) / 2, (y0 + y1) / 2, x1 - x0, y1 - y0, angle, score)


def what_was_searched(num_frames: int) -> str:
    """Return the part of an error message that says where a face was searched and how small it may be."""
    share = 100 * MIN_FACE_SHARE
    return (
        f"Searched {num_frames} frame{'s' * (num_frames != 1)}, whole and in overlapping tiles of 1/2 and 1/3 "
        f"(also 1/4 from {_LARGE_FRAME} pixels). The face (brows to chin) must be at least {share / 3:.0f} % "
        f"({share / 4:.0f} % in large frames) of the frame's longer side, look towards the camera and be uncovered."
    )


def _pick(choice: FaceChoice, faces: list[FoundFace]) -> FoundFace | None:
    box = choice.pick([face.box for face in faces])
    return next((face for face in faces if face.box is box), None)
