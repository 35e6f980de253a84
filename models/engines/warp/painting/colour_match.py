"""Colour match: the exemplar takes over the light of the frame that it is pasted into.

In the rim of the mouth mask both pictures show the same skin. Their difference there is carried inwards by
normalised convolution (Knutsson and Westin, "Normalized and differential convolution", CVPR 1993) with three
widths, on a 32 x 32 grid. Works on NumPy arrays and PyTorch tensors alike (`xp` is the module).
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.geometry.thin_plate import GRID

# Of what a blur by 3 x 3 takes away. Reading between pixels softens, fades soften; a frame's own lips, for want of
# others, are drawn farther apart than exemplars are, and lose more.
_SHARPEN, _SHARPEN_OWN = 0.15, 0.45
LUMA_FLOOR = 8.0  # added before the ratio, so that dark pixels do not explode
# (width in cells, weight): the narrow one decides near the rim, the wide ones reach the middle.
_WIDTHS = ((1.2, 1.0), (3.2, 0.08), (8.0, 0.01))
_NOTHING = 1e-12  # adds nothing; products of what is smaller are denormal, which takes a CPU five times as long
_MAX_LOG_GAIN, _MAX_OFFSET = 0.5, 16.0


def sharpening(crops: NDArray[np.integer], own: NDArray[np.integer]) -> NDArray[np.float32]:
    """How much to sharpen mouths that are read from `crops`, (N,), in frames whose own crops are `own`, (N,)."""
    return np.where(crops == own, _SHARPEN_OWN, _SHARPEN).astype(np.float32)


@cache
def blur_matrices() -> NDArray[np.float32]:
    """(3, 32, 32) float32 symmetric blur matrices; `blur @ picture @ blur` blurs both ways, weight included."""
    distance = np.subtract.outer(np.arange(GRID), np.arange(GRID))
    matrices = []
    for width, weight in _WIDTHS:
        kernel = np.exp(-(distance**2) / (2 * width**2))
        matrices.append(kernel * np.sqrt(weight) / (width * np.sqrt(2 * np.pi)))
    blurs = np.stack(matrices)
    blurs[blurs < _NOTHING] = 0
    return blurs.astype(np.float32)


def match_colour(xp: Any, frame: Any, exemplar: Any, rim: Any, blurs: Any) -> tuple[Any, Any]:
    """Returns what brings `exemplar` to the colours of `frame`.

    Args:
        xp: `numpy` or `torch`.
        frame: (T, 3, 32, 32) float32 mean Y, U, V of each cell, 0 to 255.
        exemplar: (T, 3, 32, 32) the same.
        rim: (T, 1, 32, 32) float32 weight, 0 to 1, of the cells where both show the same skin.
        blurs: `blur_matrices()`.

    Returns:
        Gain of `Y + LUMA_FLOOR`, (T, 1, 32, 32), and offset of U and V, (T, 2, 32, 32).
    """
    log_ratio = xp.log((frame[:, :1] + LUMA_FLOOR) / (exemplar[:, :1] + LUMA_FLOOR))
    difference = xp.concatenate([log_ratio, frame[:, 1:] - exemplar[:, 1:]], 1)
    stacked = xp.concatenate([difference * rim, rim], 1)[:, :, None]  # (T, 4, 1, 32, 32)
    blurred = (blurs @ stacked @ blurs).sum(2)  # (T, 4, 32, 32)
    field = blurred[:, :3] / (blurred[:, 3:] + 1e-6)
    gain = xp.exp(field[:, :1].clip(-_MAX_LOG_GAIN, _MAX_LOG_GAIN))
    return gain, field[:, 1:].clip(-_MAX_OFFSET, _MAX_OFFSET)
