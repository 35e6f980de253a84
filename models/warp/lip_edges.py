"""Finds the true inner edges of open lips in the picture.

The face mesh places the inner lips of an open mouth inside the lips' flesh. For a talking source that is the same in
every frame and cancels; a source that always shows its teeth is opened and closed along these lines, and what lies
between line and lip would count as mouth interior.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from media.planes import Planes
from models.face_points import INNER_LOWER, INNER_UPPER

_NUM_STEPS = 33
_SEARCHED = 0.45  # of the gap, to either side of the mesh's line
# Where the edge usually lies, as a share of the gap: the mesh is too high at the upper lip, about right at the lower.
_UPPER_USUAL, _LOWER_USUAL, _SPREAD = 0.15, 0.04, 0.13
_CHROMA_WEIGHT = 1.5
_MIN_GAP = 4.0  # pixels
_SMOOTH = np.array([0.25, 0.5, 0.25])


def inner_lip_shifts(planes: Planes, points: NDArray[np.floating]) -> NDArray[np.float32]:
    """Compares the mesh's inner lips with the picture.

    Args:
        planes: The frame.
        points: (468, 2 or 3) its landmarks in pixels.

    Returns:
        (2, 11) float32, for `INNER_UPPER` and `INNER_LOWER`, how far the true edge lies from the mesh's towards the
        other lip, as a share of the gap; 0 at the corners and where the mouth is shut.
    """
    upper, lower = (np.asarray(points[list(ids), :2], np.float64) for ids in (INNER_UPPER, INNER_LOWER))
    shifts = _edge_shifts(planes, upper, lower, _UPPER_USUAL), _edge_shifts(planes, lower, upper, _LOWER_USUAL)
    return np.stack(shifts).astype(np.float32)


def move_inner_lips(points: NDArray[np.floating], shifts: NDArray[np.floating]) -> NDArray[np.float32]:
    """Returns (N, 468, 3) landmarks whose inner lips are moved by what `inner_lip_shifts` found."""
    moved = np.array(points, np.float32)
    upper, lower = points[:, list(INNER_UPPER)], points[:, list(INNER_LOWER)]
    moved[:, list(INNER_UPPER)] = upper + shifts[0, :, None] * (lower - upper)
    moved[:, list(INNER_LOWER)] = lower + shifts[1, :, None] * (upper - lower)
    return moved


def _edge_shifts(
    planes: Planes, inner: NDArray[np.float64], other: NDArray[np.float64], usual: float
) -> NDArray[np.float64]:
    """(11,) shares of the gap for one lip: the strongest edge near the usual place."""
    shares = np.linspace(-_SEARCHED, _SEARCHED, _NUM_STEPS)
    searched = _sample(planes, inner[:, None] + shares[:, None] * (other - inner)[:, None])
    steps = np.pad(searched[:, 2:] - searched[:, :-2], ((0, 0), (1, 1), (0, 0)))
    likely = np.exp(-(((shares - usual) / _SPREAD) ** 2) / 2)
    shift = shares[(np.linalg.norm(steps, axis=-1) * likely).argmax(1)]
    shift[np.linalg.norm(other - inner, axis=1) < _MIN_GAP] = 0
    shift[[0, -1]] = 0
    shift[1:-1] = np.median(np.stack([shift[:-2], shift[1:-1], shift[2:]]), 0)
    shift[1:-1] = np.convolve(shift, _SMOOTH, "valid")
    return np.asarray(shift)


def _sample(planes: Planes, places: NDArray[np.float64]) -> NDArray[np.float64]:
    """(11, S, 3) Y, U, V at places."""
    channels = []
    for plane, scale in zip(planes, (1.0, 0.5, 0.5), strict=True):
        place = ((places + 0.5) * scale - 0.5).astype(np.float32)
        picture = np.ascontiguousarray(plane, np.float32)
        x, y = np.ascontiguousarray(place[..., 0]), np.ascontiguousarray(place[..., 1])
        channels.append(cv2.remap(picture, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE))
    return np.asarray(np.stack(channels, -1) * [1.0, _CHROMA_WEIGHT, _CHROMA_WEIGHT], np.float64)
