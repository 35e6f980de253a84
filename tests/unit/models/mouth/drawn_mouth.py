"""Landmarks of a drawn mouth: bows from corner to corner."""

import numpy as np
from numpy.typing import NDArray

from models.geometry.head_frame import (
    INNER_LOWER,
    INNER_UPPER,
    MIDDLE_LOWER,
    MIDDLE_UPPER,
    NUM_POINTS,
    OUTER_LOWER,
    OUTER_UPPER,
)

SIDE = 128  # of its picture
CENTRE = (64.0, 62.0)  # column, row
_SHAPES = {  # half-width, height over the centre in the middle of the mouth; below it is negative
    OUTER_UPPER: (46.0, 22.0),
    MIDDLE_UPPER: (42.0, 16.0),
    INNER_UPPER: (38.0, 8.0),
    INNER_LOWER: (38.0, -8.0),
    MIDDLE_LOWER: (42.0, -20.0),
    OUTER_LOWER: (46.0, -28.0),
}


def bow(half_width: float, height: float, x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rows of a bow over columns `x`."""
    return np.asarray(CENTRE[1] - height * (1 - ((x - CENTRE[0]) / half_width) ** 2).clip(0))


def mouth_points(inner: float = 8.0) -> NDArray[np.float32]:
    """Landmarks whose inner lips bow apart by `inner` pixels up and down."""
    points = np.zeros((NUM_POINTS, 3), np.float32)
    for ids, (half_width, height) in _SHAPES.items():
        if ids in (INNER_UPPER, INNER_LOWER):
            height = np.sign(height) * inner
        x = CENTRE[0] + np.linspace(-half_width, half_width, 11)
        points[list(ids), 0], points[list(ids), 1] = x, bow(half_width, height, x)
    return points
