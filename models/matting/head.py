"""Position of a tracked head, for matting: pixels inside the face certainly show a person."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple, Self

import cv2
import numpy as np
from numpy.typing import NDArray

from media.array_files import load_arrays
from models.geometry.head_frame import HeadPose
from models.track.face_track import FaceTrack
from models.track.skip_reason import SkipReason

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
