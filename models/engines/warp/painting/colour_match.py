"""Colour matching of an exemplar to the frame that it is pasted into.

In the rim of the mouth mask both images show the same skin. Their difference there is extrapolated inwards by
normalised convolution (Knutsson and Westin, "Normalized and differential convolution", CVPR 1993) at three
scales, on a 32 x 32 grid. Works on NumPy arrays and PyTorch tensors (`xp` is the module).
"""

from __future__ import annotations

from functools import cache
from types import ModuleType

import numpy as np
from numpy.typing import NDArray

from models.geometry.arrays import Array
from models.geometry.thin_plate import GRID

# Amount of unsharp masking with a 3 x 3 blur. Resampling and fades soften the image; a frame's own lips, used for lack
# of exemplars, are stretched farther and lose more.
_SHARPEN, _SHARPEN_OWN = 0.15, 0.45
LUMA_FLOOR = 8.0  # added before the ratio, so that it stays bounded for dark pixels
# (sigma in cells, weight): the narrow one dominates near the rim, the wide ones reach the middle.
_WIDTHS = ((1.2, 1.0), (3.2, 0.08), (8.0, 0.01))
_NOTHING = 1e-12  # negligible; products of smaller values are denormal, which is five times as slow on a CPU
_MAX_LOG_GAIN, _MAX_OFFSET = 0.5, 16.0


def sharpening(crops: NDArray[np.integer], own: NDArray[np.integer]) -> NDArray[np.float32]:
    """Return how much to sharpen mouths read from `crops` (N,) in frames whose own crops are `own` (N,)."""
    return np.where(crops == own, _SHARPEN_OWN, _SHARPEN).astype(np.float32)


@cache
def blur_matrices() -> NDArray[np.float32]:
    """Return (3, 32, 32) float32 symmetric blur matrices; `blur @ image @ blur` blurs in both directions, weighted."""
    distance = np.subtract.outer(np.arange(GRID), np.arange(GRID))
    matrices = []
    for width, weight in _WIDTHS:
        kernel = np.exp(-(distance**2) / (2 * width**2))
        matrices.append(kernel * np.sqrt(weight) / (width * np.sqrt(2 * np.pi)))
    blurs = np.stack(matrices)
    blurs[blurs < _NOTHING] = 0
    return blurs.astype(np.float32)


def match_colour(xp: ModuleType, frame: Array, exemplar: Array, rim: Array, blurs: Array) -> tuple[Array, Array]:
    """Compute the correction that brings `exemplar` to the colours of `frame`.

    Args:
        xp: `numpy` or `torch`.
        frame: (T, 3, 32, 32) float32 mean Y, U, V of each cell, 0 to 255.
        exemplar: (T, 3, 32, 32) the same for the exemplar.
        rim: (T, 1, 32, 32) float32 weight, 0 to 1, of cells in which both show the same skin.
        blurs: `blur_matrices()`.

    Returns:
        Gain of `Y + LUMA_FLOOR`, (T, 1, 32, 32), and offset of U and V, (T, 2, 32, 32).
    """
    log_ratio = xp.log((frame[:, :1] + LUMA_FLOOR) / (exemplar[:, :1] + LUMA_FLOOR))
    difference = xp.concatenate([log_ratio, frame[:, 1:] - exemplar[:, 1:]], 1)
    stacked = xp.concatenate([difference * rim, rim], 1)  # (T, 4, 32, 32)
    # The sum of blurs @ stacked @ blurs, with the widths side by side: few products of large matrices
    side_by_side = blurs.swapaxes(0, 1).reshape(GRID, -1)  # (32, 96)
    along = (stacked @ side_by_side).reshape(*stacked.shape[:3], len(blurs), GRID).swapaxes(2, 3)
    blurred = side_by_side @ along.reshape(*stacked.shape[:2], -1, GRID)  # (T, 4, 32, 32)
    field = blurred[:, :3] / (blurred[:, 3:] + 1e-6)
    gain = xp.exp(field[:, :1].clip(-_MAX_LOG_GAIN, _MAX_LOG_GAIN))
    return gain, field[:, 1:].clip(-_MAX_OFFSET, _MAX_OFFSET)
