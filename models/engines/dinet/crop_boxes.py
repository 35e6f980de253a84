"""Where the crops of both generators lie, by the 68 points of iBUG."""

from __future__ import annotations

from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import maximum_filter1d

from models.engines.dinet.box_smoothing import smooth_rows

Fit = Literal["resize", "crop"]
"""What becomes of HeyGem's crop of 266 pixels: it is resized to 256, or five pixels are cut off on each side."""

# HeyGem (preprocess_audio_and_3dmm.py): the crop is a square of 1.5 face heights; .75 to either side of the points'
# middle, from .15 above their upper edge to 1.35 below it.
_HALF_SIDE, _MIDDLE = 0.75, 0.6
_CROP_SIDE, _CUT_OFF = 266, 5
USUAL_WIDTH: Final = 0.97
"""Width of a face over its height where none can be measured: `wh` of the published checkpoint."""

_NOSE_BRIDGE, _NOSE_BASE, _CORNER_LEFT, _CORNER_RIGHT = 29, 33, 48, 54
# MRzzm/DINet, utils/data_processing.py (compute_crop_radius) and inference.py.
_RADIUS_SCALE, _RADIUS_FRAMES = 1.05, 5
# The published radius is rounded up to the next multiple of 4, by 2 on average; in steps it would make the box jump.
_ROUNDED_UP: Final = 2.0


def heygem_boxes(
    points: NDArray[np.floating], present: NDArray[np.bool_], pixel_aspect: float = 1.0, fit: Fit = "resize"
) -> NDArray[np.float64]:
    """Lay HeyGem's crop in every frame.

    The side follows from the width of the face, which speech does not change, and from the mean proportion of this
    face. HeyGem takes that mean over the first hundred frames and clamps the crop to the picture; here it is taken over
    all frames with the face, and the picture's edge repeats beyond it: a face at the edge keeps its proportions.

    Args:
        points: (N, 68, 2) frame pixels.
        present: (N,) whether the points are known.
        pixel_aspect: Width of a pixel over its height.
        fit: See `Fit`.

    Returns:
        (N, 4) x0, y0, x1, y1 frame pixels.
    """
    low, high = points.min(1), points.max(1)  # (N, 2)
    width, height = (high - low).T
    proportion = float((width / height.clip(1))[present].mean()) if present.any() else USUAL_WIDTH
    side = (width / proportion).clip(1)  # face heights
    reach = _HALF_SIDE * ((_CROP_SIDE - 2 * _CUT_OFF) / _CROP_SIDE if fit == "crop" else 1)
    x, y = (low[:, 0] + high[:, 0]) / 2, low[:, 1] + _MIDDLE * side
    across, along = reach * side / pixel_aspect, reach * side
    return np.stack([x - across, y - along, x + across, y + along], 1)


def dinet_boxes(points: NDArray[np.floating], run: NDArray[np.integer]) -> NDArray[np.float64]:
    """Lay the original DINet's crop in every frame.

    The radius r is half of 1.05 times the larger of the height from the bridge of the nose to the lowest point and the
    width of the mouth, the largest of five frames; the crop reaches from r above the bridge of the nose to 2.25 r below
    it, and 1.25 r to either side of the base of the nose. Here r changes without steps.

    Args:
        points: (N, 68, 2) frame pixels.
        run: (N,) number of the stretch that a frame belongs to; nothing is smoothed from one into the next.

    Returns:
        (N, 4) x0, y0, x1, y1 frame pixels.
    """
    height = points[..., 1].max(1) - points[:, _NOSE_BRIDGE, 1]
    width = points[:, _CORNER_RIGHT, 0] - points[:, _CORNER_LEFT, 0]
    radius = (np.maximum(height, width) * _RADIUS_SCALE / 2).clip(1).astype(np.float64)
    for number in np.unique(run):
        inside = run == number
        radius[inside] = maximum_filter1d(radius[inside], _RADIUS_FRAMES, mode="nearest")
    radius = smooth_rows(radius[:, None], run)[:, 0] + _ROUNDED_UP
    x, y = points[:, _NOSE_BASE, 0], points[:, _NOSE_BRIDGE, 1]
    return np.stack([x - 1.25 * radius, y - radius, x + 1.25 * radius, y + 2.25 * radius], 1)
