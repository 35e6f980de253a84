"""The lip model: where the points of the lower face go for a given mouth shape.

A linear map from the eight channels of `models.mouth.shape` to the displacement of the lip, chin, cheek and jaw
points. It is consistent with the measurement: what `deform` makes measures as the shape that was asked for.
`models.training.fit_lip_model` fits it on tracked talkers.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from errors import WeightsError
from media.array_files import load_arrays
from models.geometry.face_points import (
    ABOUT_MIDDLE,
    INNER_LOWER,
    INNER_UPPER,
    MIDDLE_LOWER,
    MIDDLE_UPPER,
    MOVED,
    NUM_POINTS,
)
from models.mouth.shape import CHANNELS, NUM_CHANNELS, TRACKED_GAIN, measure
from models.weights import weights_path

FILE_NAME = "lip_model.npz"
_X, _Y = 0, 1
_SEAM_DEGREE = 4  # of the line of shut lips: a bow, and the dip in the middle of the upper lip
# How the inner lips stand apart from corner to corner where their middle is 1 apart: what the mesh misses of the gaps
# of six GRID talkers, against an independent landmark network. Each lip has half of it (.39 to .65); the lips' middles,
# between edges of which the outer one hardly misses any, follow by half.
_GAP_PROFILE = np.array([0, 0.29, 0.6, 0.85, 1, 1, 1, 0.85, 0.6, 0.29, 0], np.float32)
_MIDDLE_SHARE = 0.5


class LipModel:
    """Displaces the points of a talker's resting face.

    Args:
        weights: (8, M, 3) displacement of the M points of `MOVED` for a shape of 1 in one channel, head frame.
        closing: (8,) change of shape that goes with closing the mouth by an `open_in` of 1; `closing[0] == -1`.
        closed_open_in: `open_in` that closed lips measure, in eye distances.
    """

    def __init__(self, weights: NDArray[np.floating], closing: NDArray[np.floating], closed_open_in: float) -> None:
        expected = (NUM_CHANNELS, len(MOVED), 3)
        if weights.shape != expected or closing.shape != (NUM_CHANNELS,):
            raise WeightsError(
                f"Expected a lip model of shapes {expected} and ({NUM_CHANNELS},), "
                f"got {weights.shape} and {closing.shape}."
            )
        self.weights = np.asarray(weights, np.float32)
        self.closing = np.asarray(closing, np.float32)
        self.closed_open_in = float(closed_open_in)

    @classmethod
    def load(cls) -> LipModel:
        """Loads the shipped model.

        Raises:
            WeightsError: The file is missing or not the expected one.
        """
        stored = load_arrays(weights_path(FILE_NAME))
        return cls(stored["weights"], stored["closing"], float(stored["closed_open_in"]))

    def deform(self, rest: NDArray[np.floating], shape: NDArray[np.floating]) -> NDArray[np.float32]:
        """Moves the mouth of a resting face.

        Args:
            rest: (468, 3) closed-mouth points in the head frame.
            shape: (T, 8) offsets from rest in eye distances.

        Returns:
            (T, 468, 3) float32 points in the head frame. A shape of zeros gives exactly `rest`; the inner lips
            meet, never cross.
        """
        if rest.shape != (NUM_POINTS, 3) or shape.ndim != 2 or shape.shape[1] != NUM_CHANNELS:
            raise ValueError(
                f"Expected ({NUM_POINTS}, 3) rest and (T, {NUM_CHANNELS}) shape, got {rest.shape = }, {shape.shape = }."
            )
        moved = np.asarray(shape, np.float32) @ self.weights.reshape(NUM_CHANNELS, -1)  # (T, M * 3)
        points = np.repeat(np.asarray(rest, np.float32)[None], len(shape), 0)  # (T, 468, 3)
        points[:, list(MOVED)] += moved.reshape(len(shape), -1, 3)
        part_lips(points, np.minimum(lip_gaps(np.asarray(rest, np.float32)[None]), 0.0))
        return points

    def close(self, open_face: NDArray[np.floating]) -> NDArray[np.float32]:
        """Closes the mouth of a (468, 3) head-frame face, for a source that shows no closed mouth.

        The other channels follow as they do on average when a mouth closes. Returns (468, 3) float32.
        """
        gap = float(measure(open_face[None])[0, 0]) - self.closed_open_in
        closed: NDArray[np.float32] = self.deform(open_face, (max(gap, 0.0) * self.closing)[None])[0]
        excess = np.maximum(lip_gaps(closed[None]) - self.closed_open_in, 0.0)  # (1, 11) what the average left open
        closed[list(INNER_UPPER), _Y] -= excess[0] / 2
        closed[list(INNER_LOWER), _Y] += excess[0] / 2
        return closed


def lip_gaps(points: NDArray[np.float32]) -> NDArray[np.float32]:
    """Returns the (T, 11) heights between the inner lips of (T, 468, 3) head-frame points; negative: crossed."""
    return points[:, list(INNER_UPPER), _Y] - points[:, list(INNER_LOWER), _Y]


def true_gaps(rest: NDArray[np.floating], shape: NDArray[np.floating]) -> NDArray[np.float32]:
    """Returns the (T,) heights between the lips of a talker of (468, 3) `rest`, for (T, 8) shapes in tracked sizes."""
    opening = np.maximum(shape[:, 0], 0) / TRACKED_GAIN[0]
    return np.asarray(lip_gaps(np.asarray(rest, np.float32)[None])[0, ABOUT_MIDDLE].mean() + opening, np.float32)


def set_gaps(points: NDArray[np.float32], gaps: NDArray[np.float32]) -> None:
    """Moves the lips of (T, 468, 3) head-frame points, in place, until they stand (T,) `gaps` apart in the middle.

    The mesh follows the inner lips by half only; this puts them where a picture shows them. They never cross.
    """
    missing = gaps - lip_gaps(points)[:, ABOUT_MIDDLE].mean(1)
    way = missing[:, None] / 2 * _GAP_PROFILE
    for inner, middle, sign in ((INNER_UPPER, MIDDLE_UPPER, 1), (INNER_LOWER, MIDDLE_LOWER, -1)):
        points[:, list(inner), _Y] += sign * way
        points[:, list(middle), _Y] += sign * _MIDDLE_SHARE * way
    part_lips(points)


def part_lips(points: NDArray[np.float32], min_gaps: NDArray[np.float32] | float = 0.0) -> None:
    """Moves inner lips that stand closer than `min_gaps` ((T, 11) or one number) apart, in place, half each."""
    missing = np.maximum(min_gaps - lip_gaps(points), 0.0) / 2
    points[:, list(INNER_UPPER), _Y] += missing
    points[:, list(INNER_LOWER), _Y] -= missing


def shut_lips(closed: NDArray[np.float32]) -> NDArray[np.float32]:
    """Returns a (468, 3) head-frame face whose inner lips touch: `LipModel.close` leaves what the mesh would measure.

    They touch along a smooth line, whatever tooth or tongue their edges were found around.
    """
    upper, lower = list(INNER_UPPER), list(INNER_LOWER)
    lips = closed[upper + lower].astype(np.float64)
    along = (lips[:, _X] - lips[:, _X].mean()) / max(float(np.ptp(lips[:, _X])), 1e-6)
    shut = closed.copy()
    shut[upper + lower, _Y] = np.polyval(np.polyfit(along, lips[:, _Y], _SEAM_DEGREE), along)
    return shut


__all__ = ["CHANNELS", "MOVED", "LipModel", "lip_gaps", "part_lips", "set_gaps", "shut_lips", "true_gaps"]
