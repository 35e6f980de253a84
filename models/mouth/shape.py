"""The mouth shape: eight channels that describe the mouth, used by every part of Lipwright.

They are measured in the head frame (`models.geometry.head_frame`; unit: outer-eye-corner distance, y up, z towards the
camera) and used as offsets from the speaker's closed mouth, "rest".

| channel  | definition                                                               |
|----------|--------------------------------------------------------------------------|
| open_in  | gap between the inner lips                                               |
| open_out | height of the mouth including the lips                                   |
| width    | distance of the mouth corners, along x                                   |
| upper    | height of the upper lip                                                  |
| lower    | depth of the lower lip                                                   |
| jaw      | depth of the chin                                                        |
| protrude | how far the middle of the lips is in front of the corners (weak: mesh z) |
| corner_y | height of the mouth corners                                              |

The channels are linear in the points, and `open_in + open_out = 2 * (upper + lower)`: seven are independent.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

from models.geometry.head_frame import (
    ABOUT_MIDDLE,
    CHIN_TIP,
    CORNER_LEFT,
    CORNER_RIGHT,
    INNER_LOWER,
    INNER_MIDDLES,
    INNER_UPPER,
    NUM_POINTS,
    OUTER_LOWER,
    OUTER_UPPER,
)

CHANNELS = ("open_in", "open_out", "width", "upper", "lower", "jaw", "protrude", "corner_y")
NUM_CHANNELS = len(CHANNELS)

# Standard deviation of each channel in real speech: 699 sentences of talker s1 of the GRID corpus.
DEFAULT_SCALE = np.array([0.052, 0.048, 0.0225, 0.0136, 0.043, 0.036, 0.0047, 0.0156], np.float32)
DEFAULT_SCALE.flags.writeable = False

OPEN_MOUTH = 0.025  # eye distances between the inner lips that count as open; speech opens them by .05 on average
# Share of a speaker's frames, the most closed ones, that define the closed mouth. With .15, two of 15 speakers hold a
# mouth in silence that is open by .05 eye distances or more; .08 closes them no better than .1.
CLOSED_SHARE = 0.1

_X, _Y, _Z = 0, 1, 2
_UPPER_INNER, _UPPER_OUTER = INNER_UPPER[ABOUT_MIDDLE], OUTER_UPPER[ABOUT_MIDDLE]
_LOWER_INNER, _LOWER_OUTER = INNER_LOWER[ABOUT_MIDDLE], OUTER_LOWER[ABOUT_MIDDLE]
_CORNERS = (CORNER_LEFT, CORNER_RIGHT)
_LIP_MIDDLES = (_UPPER_OUTER[1], _LOWER_OUTER[1], *INNER_MIDDLES)
# Each channel is a sum of terms: sign x mean of one axis over some points.
_TERMS: tuple[tuple[tuple[int, int, tuple[int, ...]], ...], ...] = (
    ((1, _Y, _UPPER_INNER), (-1, _Y, _LOWER_INNER)),
    ((1, _Y, _UPPER_OUTER), (-1, _Y, _LOWER_OUTER)),
    ((1, _X, (CORNER_RIGHT,)), (-1, _X, (CORNER_LEFT,))),
    ((1, _Y, _UPPER_OUTER + _UPPER_INNER),),
    ((-1, _Y, _LOWER_OUTER + _LOWER_INNER),),
    ((-1, _Y, (148, CHIN_TIP, 377)),),
    ((1, _Z, _LIP_MIDDLES), (-1, _Z, _CORNERS)),
    ((1, _Y, _CORNERS),),
)


@cache
def measure_matrix() -> NDArray[np.float64]:
    """Return the read-only (8, 468, 3) coefficients of the channels: `measure(head) = sum(coefficients * head)`."""
    matrix = np.zeros((NUM_CHANNELS, NUM_POINTS, 3))
    for channel, terms in enumerate(_TERMS):
        for sign, axis, points in terms:
            matrix[channel, list(points), axis] += sign / len(points)
    matrix.flags.writeable = False
    return matrix


def measure(head_points: NDArray[np.floating]) -> NDArray[np.float32]:
    """Measure the mouth channels.

    Args:
        head_points: (T, 468, 3) points in the head frame.

    Returns:
        (T, 8) float32 channels in eye distances; subtract those of the rest face to get a mouth shape.
    """
    if head_points.ndim != 3 or head_points.shape[1:] != (NUM_POINTS, 3):
        raise ValueError(f"Expected (T, {NUM_POINTS}, 3) points, got {head_points.shape = }.")
    matrix = measure_matrix().reshape(NUM_CHANNELS, -1)
    return (head_points.reshape(len(head_points), -1).astype(np.float64) @ matrix.T).astype(np.float32)
