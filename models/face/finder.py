"""Finds all faces of a frame, small ones too.

The detector misses faces under about 15 % of the longer side of what it is shown, so it is shown overlapping tiles
as well. A face counts only where the landmark network sees it too: tiles bring false alarms.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from media.probe import ColourTags
from media.yuv_frame import YuvFrame
from models.face.choice import FaceChoice
from models.face.detection import MIN_FACE_SHARE, FaceBox, FaceDetector, Window
from models.face.landmarks import MIN_PRESENCE, FaceLandmarker, LandmarkRegion
from models.weights.onnx_session import Device

_TILES: Final = (1, 2, 3)  # tiles are one n-th of the frame, half overlapping
_LARGE_FRAME: Final = 1280  # from this longer side on, a fourth is tried too
_LARGE_TILES: Final = (1, 2, 3, 4)
_REFINEMENTS = 2  # landmark runs after the first, each on the region that the last one gave
_SAME_FACE_OVERLAP = 0.3
# A face that nobody knows yet has to be a clear one. Test patterns and faces upside down reach a logit of 7, and so do
# faces with the mouth or one half covered; blurred ones have 9, plain ones 20.
_CLEAR_PRESENCE: Final = 8.0


class FoundFace(NamedTuple):
    """A face that both networks see."""

    box: FaceBox  # around the landmarks
    points: NDArray[np.float32]  # (468, 3) frame pixels
    presence: float  # logit

    @property
    def region(self) -> LandmarkRegion:
        """Where to look for its points in the next frame."""
        return LandmarkRegion.of_points(self.points)


class FaceFinder:
    """The detector on tiles, checked by the landmark network."""

    def __init__(self, num_threads: int, device: Device) -> None:
        self._detect = FaceDetector(num_threads, device)
        self.landmarks = FaceLandmarker(num_threads, device)

    def find_all(self, frame: YuvFrame, colour: ColourTags, min_presence: float = MIN_PRESENCE) -> list[FoundFace]:
        """Returns every face of at least this presence (a logit), largest first."""
        faces: list[FoundFace] = []
        for level in self._levels(frame):
            self._add(faces, frame, colour, tiles(frame, level), min_presence)
        return sorted(faces, key=lambda face: -face.box.size)

    def find(self, frame: YuvFrame, colour: ColourTags, choice: FaceChoice) -> tuple[FoundFace | None, list[FoundFace]]:
        """Returns the chosen face or None, and all clear faces seen in looking for it, largest first.

        The largest face is looked for on ever smaller tiles until there is one; any other choice needs them all.
        """
        if choice.kind != "largest":
            faces = self.find_all(frame, colour, _CLEAR_PRESENCE)
            return _pick(choice, faces), faces
        faces = []
        for level in self._levels(frame):
            self._add(faces, frame, colour, tiles(frame, level), _CLEAR_PRESENCE)
            if faces:
                break
        return _pick(choice, faces), faces

    def find_in(self, frame: YuvFrame, colour: ColourTags, window: Window) -> list[FoundFace]:
        """Returns the faces in one part of the frame, largest first."""
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
        """Adds to `faces` what the windows show and `faces` lacks."""
        for window in windows:
            for box in self._detect(frame, colour, window):
                if any(known.box.overlap_box(box) > _SAME_FACE_OVERLAP for known in faces):
                    continue
                face = self._verify(frame, colour, box)
                if face is None or face.presence <= min_presence:
                    continue
                if all(known.box.overlap_box(face.box) <= _SAME_FACE_OVERLAP for known in faces):
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
    """Yields half-overlapping windows of one `level`-th of the frame in each direction; level 1 is the frame."""
    height, width = frame.y.shape
    tile_height, tile_width = (max(2, side // level // 2 * 2) for side in (height, width))
    steps = range(2 * level - 1)
    for row in steps:
        for column in steps:
            x = (width - tile_width) * column // max(1, len(steps) - 1) // 2 * 2
            y = (height - tile_height) * row // max(1, len(steps) - 1) // 2 * 2
            yield Window(x, y, tile_width, tile_height)


def box_of_points(points: NDArray[np.floating], score: float) -> FaceBox:
    """The upright box around (468, 3) points."""
    (x0, y0), (x1, y1) = points[:, :2].min(0).tolist(), points[:, :2].max(0).tolist()
    angle = LandmarkRegion.of_points(points).angle
    return FaceBox((x0 + x1) / 2, (y0 + y1) / 2, x1 - x0, y1 - y0, angle, score)


def what_was_searched(num_frames: int) -> str:
    """One sentence for an error: where a face was looked for, and how small it may be."""
    share = 100 * MIN_FACE_SHARE
    return (
        f"{num_frames} frame{'s' * (num_frames != 1)} searched whole and in overlapping tiles of 1/2 and 1/3 "
        f"(1/4 in frames of {_LARGE_FRAME} pixels and more). The face, brows to chin, must be at least "
        f"{share / 3:.0f} % ({share / 4:.0f} % in large frames) of the frame's longer side, look towards "
        "the camera and be uncovered."
    )


def _pick(choice: FaceChoice, faces: list[FoundFace]) -> FoundFace | None:
    box = choice.pick([face.box for face in faces])
    return next((face for face in faces if face.box is box), None)
