"""Landmarks of a face in a still picture that a caller has marked with five points, where no detector finds one.

The mean face is warped onto the points with a thin-plate spline, whose affine part places, turns and stretches it.
Five points do not tell where the lids are: the eyes are closed lines, and eyelids, gaze and the measurement of the
white of the eyes leave them alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from lipwright.errors import OptionError
from models.geometry import thin_plate
from models.geometry.head_frame import CHIN_TIP, CORNER_LEFT, CORNER_RIGHT, EYES, mean_face
from models.track.raw_landmarks import RawLandmarks
from models.track.visibility import MIN_EYE_DISTANCE

MARKS: Final = ("left_eye", "right_eye", "mouth_left", "mouth_right", "chin")
"""The points in the order of the numbers of a `FaceChoice`; "left" is the left of the picture."""


def check_marks(numbers: Sequence[float], width: int, height: int) -> None:
    """Refuse the x, y of five points that are no face in a picture of width x height pixels.

    Left, right and below are those of the face: it may be rotated.

    Raises:
        OptionError: Names the point and what is wrong with it.
    """
    marks = np.array(numbers, np.float64).reshape(-1, 2)
    for name, (x, y) in zip(MARKS, marks.tolist(), strict=True):
        if not (0 <= x <= width - 1 and 0 <= y <= height - 1):
            raise _wrong(name, f"expected a point in the picture of {width} x {height} pixels, found {x:g},{y:g}")
    left, right, *below = marks
    across, unit = right - left, float(np.linalg.norm(right - left))
    own = mean_marks()
    needed = MIN_EYE_DISTANCE * float(np.linalg.norm(own[1] - own[0]))  # of the centres; that of the corners is 1
    if unit < needed:
        raise _wrong("right_eye", f"expected at least {needed:.1f} pixels from left_eye, found {unit:.1f}")
    axes = np.stack([across, [-across[1], across[0]]], -1) / unit**2  # to eye distances along and below the eyes
    corner_left, corner_right, chin = (np.array(below) - (left + right) / 2) @ axes
    for name, place in zip(MARKS[2:4], (corner_left, corner_right), strict=True):
        if place[1] < _LEAST:
            raise _wrong(name, "expected the mouth below the eyes; left_eye is the one on the left of the picture")
    if corner_right[0] - corner_left[0] < _LEAST:
        raise _wrong("mouth_right", "expected it to the right of mouth_left")
    if chin[1] - (corner_left[1] + corner_right[1]) / 2 < _LEAST:
        raise _wrong("chin", "expected it below the mouth")


_LEAST: Final = 0.1  # eye distances by which points must differ


def marked_landmarks(numbers: Sequence[float]) -> RawLandmarks:
    """Return the landmarks of a still picture whose face has the x, y of `MARKS`."""
    own, marks = mean_marks(), np.array(numbers, np.float64).reshape(-1, 2)
    face = mean_face().copy()
    for upper, lower in EYES:
        face[list(upper)] = face[list(lower)] = (face[list(upper)] + face[list(lower)]) / 2
    weights = thin_plate.fit(np, own[None], marks[None], [np.arange(len(own))], ridge=0.0)
    points = np.empty(face.shape, np.float32)
    points[:, :2] = thin_plate.evaluate(np, own[None], weights, face[:, :2])[0]
    points[:, 2] = -face[:, 2] * np.linalg.norm(marks[1] - marks[0]) / np.linalg.norm(own[1] - own[0])
    return RawLandmarks(points[None], np.array([True]))


def mean_marks() -> NDArray[np.float64]:
    """Return the (5, 2) `MARKS` of the mean face in the head frame."""
    face = mean_face()[:, :2]
    eyes = [face[list({*upper, *lower})].mean(0) for upper, lower in EYES]
    return np.asarray([*eyes, face[CORNER_LEFT], face[CORNER_RIGHT], face[CHIN_TIP]], np.float64)


def _wrong(name: str, what: str) -> OptionError:
    return OptionError(f"face_points.{name}: {what}.")
