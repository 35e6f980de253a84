"""Control points of the two warp layers: landmarks of the lower face and a frame of anchors that hold still.

Two layers, because the lips are two sheets that slide past each other: the upper-lip field never sees the lower
lip's points and the other way round, and they meet along the seam between the inner lips.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from models.geometry.face_points import (
    ABOVE_LIP,
    CHEEK,
    CHIN,
    INNER_LOWER,
    INNER_UPPER,
    JAW,
    MIDDLE_LOWER,
    MIDDLE_UPPER,
    NOSE,
    OUTER_LOWER,
    OUTER_UPPER,
)

_UPPER_IDS = {*OUTER_UPPER, *INNER_UPPER, *MIDDLE_UPPER, *ABOVE_LIP, *NOSE, *CHEEK, *JAW}
_LOWER_IDS = {*OUTER_LOWER, *INNER_LOWER, *MIDDLE_LOWER, *NOSE, *CHIN, *CHEEK, *JAW}

# Mesh ids of the landmarks among the control points, ascending.
CONTROL_IDS: tuple[int, ...] = tuple(sorted(_UPPER_IDS | _LOWER_IDS))
NUM_LANDMARKS = len(CONTROL_IDS)


def _rows(ids: tuple[int, ...]) -> NDArray[np.intp]:
    return np.array([CONTROL_IDS.index(point) for point in ids], np.intp)


# Rows of the lips' inner edges and of their middles among the control points, corner to corner.
INNER_UPPER_ROWS, INNER_LOWER_ROWS = _rows(INNER_UPPER), _rows(INNER_LOWER)
MIDDLE_UPPER_ROWS, MIDDLE_LOWER_ROWS = _rows(MIDDLE_UPPER), _rows(MIDDLE_LOWER)

# Anchors: a 6 x 6 grid's rim on a rectangle of the head frame (eye distances; y up).
_ANCHOR_X, _ANCHOR_Y, _ANCHORS_PER_SIDE = 1.0, (-0.25, -2.05), 6


def anchor_points(depth: float) -> NDArray[np.float64]:
    """Returns the (20, 3) head-frame anchors in the plane z = `depth`; they move with the head alone."""
    xs = np.linspace(-_ANCHOR_X, _ANCHOR_X, _ANCHORS_PER_SIDE)
    ys = np.linspace(*_ANCHOR_Y, _ANCHORS_PER_SIDE)
    rim = [(x, y, depth) for x in xs for y in ys if x in (xs[0], xs[-1]) or y in (ys[0], ys[-1])]
    return np.array(rim)


NUM_ANCHORS = 4 * (_ANCHORS_PER_SIDE - 1)
NUM_CONTROLS = NUM_LANDMARKS + NUM_ANCHORS
_ANCHOR_ROWS = np.arange(NUM_LANDMARKS, NUM_CONTROLS)

# Rows of the control points that drive each layer.
UPPER_ROWS: NDArray[np.intp] = np.concatenate([_rows(tuple(sorted(_UPPER_IDS))), _ANCHOR_ROWS])
LOWER_ROWS: NDArray[np.intp] = np.concatenate([_rows(tuple(sorted(_LOWER_IDS))), _ANCHOR_ROWS])
