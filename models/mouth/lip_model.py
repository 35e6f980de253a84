"""The lip model: displacements of the lower face points for a given mouth shape.

A linear map from the eight channels of `models.mouth.shape` to the displacement of the lip, chin, cheek and jaw
points. It is consistent with the measurement: the result of `deform` measures as the requested shape.
`training.fit_lip_model` fits it on tracked speakers.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lipwright.errors import WeightsError
from lipwright.media.array_files import load_arrays
from models.geometry.head_frame import (
    ABOUT_MIDDLE,
    INNER_LOWER,
    INNER_UPPER,
    MOVED,
    NUM_POINTS,
)
from models.mouth.shape import NUM_CHANNELS, measure
from models.weights import weights_path

FILE_NAME = "lip_model.npz"
_X, _Y = 0, 1
_SEAM_DEGREE = 4  # polynomial of the line of closed lips: a bow, and the dip in the middle of the upper lip


class LipModel:
    """Displaces the points of a resting face.

    Args:
        weights: (8, M, 3) displacement of the M points of `MOVED` per unit of each channel, head frame.
        closing: (8,) average change of shape when the mouth closes by an `open_in` of 1; `closing[0] == -1`.
        skin: (8, M, 3) displacement of the skin beyond that of its landmarks, per unit of each channel.
    """

    def __init__(
        self, weights: NDArray[np.floating], closing: NDArray[np.floating], skin: NDArray[np.floating]
    ) -> None:
        expected = (NUM_CHANNELS, len(MOVED), 3)
        if weights.shape != expected or closing.shape != (NUM_CHANNELS,) or skin.shape != expected:
            raise WeightsError(
                f"Expected a lip model of shapes {expected}, ({NUM_CHANNELS},) and {expected}, "
                f"got {weights.shape}, {closing.shape} and {skin.shape}."
            )
        self.weights = np.asarray(weights, np.float32)
        self.closing = np.asarray(closing, np.float32)
        self._skin = np.asarray(skin, np.float32)

    @classmethod
    def load(cls) -> LipModel:
        """Load the shipped model.

        Raises:
            WeightsError: The file is missing or has the wrong contents.
        """
        stored = load_arrays(weights_path(FILE_NAME))
        return cls(stored["weights"], stored["closing"], stored["skin"])

    def deform(self, rest: NDArray[np.floating], shape: NDArray[np.floating]) -> NDArray[np.float32]:
        """Move the mouth of a resting face.

        Args:
            rest: (468, 3) closed-mouth points in the head frame.
            shape: (T, 8) offsets from rest in eye distances.

        Returns:
            (T, 468, 3) float32 points in the head frame. A shape of zeros gives exactly `rest`; the inner lips
            may meet but never cross.
        """
        if rest.shape != (NUM_POINTS, 3):
            raise ValueError(f"Expected ({NUM_POINTS}, 3) rest, got {rest.shape = }.")
        return self.change(np.repeat(np.asarray(rest, np.float32)[None], len(shape), 0), shape)

    def change(self, faces: NDArray[np.floating], change: NDArray[np.floating]) -> NDArray[np.float32]:
        """Change the mouth shapes of faces relative to their current shapes.

        Args:
            faces: (T, 468, 3) points in the head frame.
            change: (T, 8) change of shape, in eye distances.

        Returns:
            (T, 468, 3) float32 points. Closing lips keep the form of their gap until they meet.
        """
        if faces.shape != (len(change), NUM_POINTS, 3) or change.shape[1:] != (NUM_CHANNELS,):
            raise ValueError(
                f"Expected (T, {NUM_POINTS}, 3) faces and (T, {NUM_CHANNELS}) change, "
                f"got {faces.shape = }, {change.shape = }."
            )
        moved = np.asarray(change, np.float32) @ self.weights.reshape(NUM_CHANNELS, -1)  # (T, M * 3)
        points = np.array(faces, np.float32)
        gaps = np.maximum(lip_gaps(points), 0)
        points[:, list(MOVED)] += moved.reshape(len(change), len(MOVED), 3)
        own = gaps[:, ABOUT_MIDDLE].mean(1, keepdims=True)
        left = np.maximum(own + change[:, :1], 0) / np.maximum(own, 1e-6)
        _set_gaps(points, np.where(left < 1, left * gaps, np.maximum(lip_gaps(points), 0)))
        return points

    def skin_motion(self, shape: NDArray[np.floating]) -> NDArray[np.float32]:
        """Return how far the skin at `MOVED` moves beyond its landmarks in (T, 8) shapes: (T, M, 3), 0 at the lips.

        The face mesh moves cheeks and chin less than they move in the optical flow of real faces.
        """
        moved = np.asarray(shape, np.float32) @ self._skin.reshape(NUM_CHANNELS, -1)
        return np.asarray(moved.reshape(len(shape), len(MOVED), 3))

    def close(self, open_face: NDArray[np.floating]) -> NDArray[np.float32]:
        """Close the mouth of a (468, 3) head-frame face, for a source that never shows a closed mouth.

        The other channels follow as they do on average when a mouth closes. Return (468, 3) float32.
        """
        gap = float(measure(open_face[None])[0, 0])
        return shut_lips(self.deform(open_face, (gap * self.closing)[None])[0])


def lip_gaps(points: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the (T, 11) gaps between the inner lips of (T, 468, 3) head-frame points; negative if they cross."""
    return points[:, list(INNER_UPPER), _Y] - points[:, list(INNER_LOWER), _Y]


def meeting_lips(closed: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return a (468, 3) head-frame face whose inner lips are moved to meet half way."""
    met = closed.copy()
    _set_gaps(met[None], np.zeros((1, len(INNER_UPPER)), np.float32))
    return met


def _set_gaps(points: NDArray[np.float32], gaps: NDArray[np.float32]) -> None:
    """Set the (T, 11) gaps between the inner lips of (T, 468, 3) faces in place, moving each lip by half."""
    missing = (gaps - lip_gaps(points)) / 2
    points[:, list(INNER_UPPER), _Y] += missing
    points[:, list(INNER_LOWER), _Y] -= missing


def shut_lips(closed: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return a (468, 3) head-frame face whose inner lips meet half way along a smooth line.

    The smooth line removes dents where landmarks follow a tooth or the tongue.
    """
    shut = meeting_lips(closed)
    upper, lower = list(INNER_UPPER), list(INNER_LOWER)
    lips = (shut[upper].astype(np.float64) + shut[lower]) / 2
    along = (lips[:, _X] - lips[:, _X].mean()) / max(float(np.ptp(lips[:, _X])), 1e-6)
    shut[upper, _Y] = shut[lower, _Y] = np.polyval(np.polyfit(along, lips[:, _Y], _SEAM_DEGREE), along)
    return shut


__all__ = ["LipModel", "lip_gaps", "meeting_lips", "shut_lips"]
