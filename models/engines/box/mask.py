"""How far a box is rewritten at each place: a soft mask of the lower face."""

from __future__ import annotations

from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

# Masks are drawn in a picture of the box of this side, so that the feather goes with the size of the face and costs the
# same for each.
MASK_SIZE: Final = 128
# Standard deviation of the feather in mask pixels: 3 % of the box. From the outline inwards the mask needs about twice
# as much to reach 1.
_FEATHER: Final = 4.0
_FRACTION_BITS: Final = 8  # of the corners given to cv2


def soft_mask(outline: NDArray[np.floating], box: NDArray[np.floating]) -> NDArray[np.uint8]:
    """Draw the mask of one face.

    The convex hull is blurred, and of the blur only the half inside of the hull is kept: the mask is 0 at the hull's
    edge, at the box's edge and outside of both.

    Args:
        outline: (P, 2) points in region pixels.
        box: (4,) x0, y0, x1, y1 in region pixels.

    Returns:
        (128, 128) uint8 over the box, 255 where it is fully rewritten.
    """
    places = (outline - box[:2]) / (box[2:] - box[:2]) * MASK_SIZE - 0.5
    # An outline may be anywhere; corners far outside do not change what is drawn inside.
    corners = np.rint(places.clip(-4 * MASK_SIZE, 4 * MASK_SIZE) * 2**_FRACTION_BITS).astype(np.int32)
    drawn = np.zeros((MASK_SIZE, MASK_SIZE), np.float32)
    cv2.fillConvexPoly(drawn, cv2.convexHull(corners[:, None]), 1.0, cv2.LINE_8, _FRACTION_BITS)
    blurred = cv2.GaussianBlur(drawn, (0, 0), _FEATHER, borderType=cv2.BORDER_CONSTANT)
    inside = np.where(drawn > 0, (blurred - 0.5) * 2, 0)
    return np.asarray(np.rint(inside.clip(0, 1) * 255), np.uint8)
