"""Colour of the skin and lips around the mouth, at points of the face mesh that move with the face.

The points lie on skin and on the red of the lips, never inside the mouth. They follow the jaw, so their colours stay
the same while the mouth moves. An object in front of the face changes them.
"""

from __future__ import annotations

import itertools
from typing import Final

import numpy as np
from numpy.typing import NDArray

from media.yuv_frame import YuvFrame
from models.face.surface import sample_plane
from models.geometry.face_points import (
    ABOVE_LIP,
    CHEEK,
    CHEEK_FRONT,
    CHIN,
    EYE_LEFT,
    EYE_RIGHT,
    EYES,
    MIDDLE_LOWER,
    MIDDLE_UPPER,
    OUTER_LOWER,
    OUTER_UPPER,
    RIGID,
)

# Without the points next to the corners of the mouth, where lips fold, and without those at the outer edge of the lips.
_NEXT_TO_LIPS = frozenset((*OUTER_UPPER, *OUTER_LOWER, 57, 287, 43, 273, 18, 83, 313))
_UPPER_CHEEKS = frozenset((50, 280))
AROUND_MOUTH: Final = tuple(
    sorted({*ABOVE_LIP, *CHEEK, *CHIN, *MIDDLE_UPPER[2:-2], *MIDDLE_LOWER[2:-2]} - _NEXT_TO_LIPS - _UPPER_CHEEKS)
)
_EYES = frozenset(itertools.chain.from_iterable(itertools.chain.from_iterable(EYES)))
UPPER_FACE: Final = tuple(sorted({*RIGID, *CHEEK_FRONT} - _EYES))
NUM_AROUND_MOUTH: Final = len(AROUND_MOUTH)
NUM_CHROMA_POINTS: Final = NUM_AROUND_MOUTH + len(UPPER_FACE)

_POINTS = [*AROUND_MOUTH, *UPPER_FACE]
_CELL = 0.07  # eye distances over which a colour is averaged: less than the height of a lip


def chroma_of(frame: YuvFrame, points: NDArray[np.floating]) -> NDArray[np.uint8]:
    """Returns (M, 2) uint8 U and V at `AROUND_MOUTH`, then at `UPPER_FACE`.

    Args:
        frame: The picture.
        points: (468, 3) landmarks in pixels.
    """
    cell = _CELL * float(np.linalg.norm(points[EYE_LEFT] - points[EYE_RIGHT]))
    place = np.asarray(points[_POINTS, :2], np.float64)
    planes = [sample_plane(plane, place, cell, shrink=2) for plane in (frame.u, frame.v)]
    return np.asarray(np.rint(np.stack(planes, -1)), np.uint8)
