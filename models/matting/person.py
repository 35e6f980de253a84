"""Segments people in a frame, at a low resolution. Pixels inside a tracked face certainly show a person.

Network: `person_segmentation.onnx` (Apache-2.0, Google; the selfie segmentation of MediaPipe, a MobileNetV3 with a
small decoder). It takes a whole picture squeezed to a square, as MediaPipe's own graph does. Where the head is small,
it also takes squares around the upper body and the head, which show them as large as in the pictures it was trained on.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final, NamedTuple, Self

import cv2
import numpy as np
from numpy.typing import NDArray

from lipwright.media.array_files import load_arrays
from lipwright.media.output.dynamic_range import to_sdr_rgb
from lipwright.media.probe import ColourTags
from lipwright.media.yuv_frame import YuvFrame
from models.geometry.head_frame import HeadPose
from models.track.face_track import FaceTrack
from models.track.raw_landmarks import SkipReason
from models.weights import weights_path
from models.weights.onnx_session import Device, make_session

_ABSENT = (SkipReason.NO_FACE, SkipReason.OTHER_PERSON)


class Head(NamedTuple):
    """The head in one frame."""

    x: float  # pixels, between the eyes
    y: float
    eye_distance: float  # pixels
    face: NDArray[np.float32]  # (P, 2) pixels, the convex outline of the face


class Heads:
    """The head in each frame of a source, from the track of its avatar."""

    def __init__(self, pose: HeadPose, rest: NDArray[np.floating], is_known: NDArray[np.bool_]) -> None:
        """Take the pose in N frames, the (P, 3) points of the face, and whether it is known in each frame."""
        self._pose, self._rest, self._is_known = pose, rest, is_known

    @classmethod
    def of(cls, track: FaceTrack) -> Self:
        """Return the heads of a track."""
        pose = HeadPose(track.scale, track.rotation, track.translation, track.pixel_aspect)
        return cls(pose, track.rest, ~np.isin(track.skip_reason, _ABSENT))

    @classmethod
    def load(cls, track: Path) -> Self:
        """Read what is needed of a file that `FaceTrack.save` wrote."""
        names = ("scale", "rotation", "translation", "rest", "skip_reason", "pixel_aspect")
        scale, rotation, translation, rest, skip_reason, aspect = load_arrays(track, names).values()
        pose = HeadPose(scale, rotation, translation, float(aspect))
        return cls(pose, rest, ~np.isin(skip_reason, _ABSENT))

    def at(self, frame: int) -> Head | None:
        """Return the head in a frame; None if it is not known there."""
        if not self._is_known[frame]:
            return None
        pose = self._pose
        one = slice(frame, frame + 1)
        here = HeadPose(pose.scale[one], pose.rotation[one], pose.translation[one], pose.pixel_aspect)
        points = here.same_to_image(self._rest)[0, :, :2].astype(np.float32)
        outline = np.asarray(cv2.convexHull(points)[:, 0], np.float32)
        x, y = here.translation[0, :2]
        return Head(float(x / pose.pixel_aspect), float(y), float(here.scale[0]), outline)


COARSE_SIDE: Final = 480
"""Longest side of a segmentation; smaller frames are segmented at their own size."""

_SIDE: Final = 256
# Sides of the squares around upper body and head, in eye distances. In a restaurant and a garden, where the head is a
# fifth of the picture's height, the first removes furniture, the second the pattern of the wall around the head.
_SQUARES: Final = (10.0, 5.5)
_ABOVE_EYES: Final = 0.42  # share of a square that is above the eyes
_MAX_SHARE: Final = 0.75  # of the side of the larger square or of the frame that a square may have
_RAMP: Final = 0.12  # share of a square over which it replaces the larger one

_SPECK: Final = 0.1  # probability from which pixels belong to a part
_MIN_PART: Final = 0.15  # area of a part that is kept, relative to the largest


class _Box(NamedTuple):
    """A part of a frame in luma pixels, all even."""

    x: int
    y: int
    width: int
    height: int

    def cut(self, frame: YuvFrame) -> YuvFrame:
        """Return views of the planes."""
        return YuvFrame(
            *(
                plane[self.y // step : (self.y + self.height) // step, self.x // step : (self.x + self.width) // step]
                for plane, step in zip(frame, (1, 2, 2), strict=True)
            )
        )


class PersonSegmenter:
    """The segmentation network."""

    def __init__(self, num_threads: int, device: Device = "cpu") -> None:
        self._session = make_session(weights_path("person_segmentation.onnx"), num_threads=num_threads, device=device)

    def __call__(self, frame: YuvFrame, colour: ColourTags, head: Head | None = None) -> NDArray[np.float32]:
        """Return the (h, w) probability, 0 to 1, that a part of the frame shows a person; see `coarse_size`.

        `head` is where a head is known to be.
        """
        height, width = frame.y.shape
        size = coarse_size(width, height)
        found = np.asarray(cv2.resize(self._segment(frame, colour), size, interpolation=cv2.INTER_LINEAR), np.float32)
        if head is None:
            return _without_specks(found)
        scale = size[0] / width
        for box in _boxes(head, width, height):
            part = self._segment(box.cut(frame), colour)
            x0, y0 = round(box.x * scale), round(box.y * scale)
            x1, y1 = min(round((box.x + box.width) * scale), size[0]), min(round((box.y + box.height) * scale), size[1])
            larger = found[y0:y1, x0:x1]
            part = np.asarray(cv2.resize(part, (x1 - x0, y1 - y0), interpolation=cv2.INTER_LINEAR), np.float32)
            larger += _ramp(box, width, height, part.shape) * (part - larger)
        face = np.zeros(found.shape, np.float32)
        cv2.fillConvexPoly(face, np.rint(head.face * scale).astype(np.int32), 1.0)
        return _without_specks(np.maximum(found, np.asarray(cv2.blur(face, (5, 5)), np.float32)))

    def _segment(self, frame: YuvFrame, colour: ColourTags) -> NDArray[np.float32]:
        """Return (256, 256) probabilities of a picture of any size."""
        half = _SIDE // 2
        small = YuvFrame(
            *(
                np.asarray(cv2.resize(plane, (side, side), interpolation=cv2.INTER_AREA), np.uint8)
                for plane, side in zip(frame, (_SIDE, half, half), strict=True)
            )
        )
        picture = to_sdr_rgb(small, colour).astype(np.float32)[None] / 255
        (found,) = self._session.run(None, {"picture": picture})
        return np.asarray(found[0, :, :, 0], np.float32)


def _without_specks(found: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the segmentation without parts that are much smaller than its largest part."""
    _, parts, stats, _ = cv2.connectedComponentsWithStats((found > _SPECK).astype(np.uint8))
    areas = stats[:, cv2.CC_STAT_AREA]
    areas[0] = 0  # label 0 is the background
    is_kept = areas >= _MIN_PART * areas.max(initial=1)
    return np.where(is_kept[parts], found, 0).astype(np.float32)


def coarse_size(width: int, height: int) -> tuple[int, int]:
    """Return width and height of the segmentation of a frame."""
    scale = min(1.0, COARSE_SIDE / max(width, height))
    return max(8, round(width * scale)), max(8, round(height * scale))


def _boxes(head: Head, width: int, height: int) -> list[_Box]:
    """Return the squares around a head that are worth segmenting, the largest first, moved into the frame."""
    boxes: list[_Box] = []
    before = float(max(width, height))
    for eye_distances in _SQUARES:
        side = eye_distances * head.eye_distance
        if side > _MAX_SHARE * before or side < 16:
            continue
        before = side
        sides = (int(min(side, size)) // 2 * 2 for size in (width, height))
        box_width, box_height = sides
        x = int(np.clip(head.x - box_width / 2, 0, width - box_width)) // 2 * 2
        y = int(np.clip(head.y - _ABOVE_EYES * box_height, 0, height - box_height)) // 2 * 2
        boxes.append(_Box(x, y, box_width, box_height))
    return boxes


def _ramp(box: _Box, width: int, height: int, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Return (h, w) weights of a square: 1 inside, 0 at its sides, except where they are those of the frame."""
    weights = []
    for start, side, size, count in (
        (box.y, box.height, height, shape[0]),
        (box.x, box.width, width, shape[1]),
    ):
        place = (np.arange(count) + 0.5) / count
        low = np.ones(count) if start <= 1 else np.clip(place / _RAMP, 0, 1)
        high = np.ones(count) if start + side >= size - 1 else np.clip((1 - place) / _RAMP, 0, 1)
        weights.append(np.minimum(low, high))
    return np.asarray(np.minimum.outer(weights[0], weights[1]), np.float32)
