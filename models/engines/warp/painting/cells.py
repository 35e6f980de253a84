"""Cells of planes: their means, and which of them a mask covers."""

from __future__ import annotations

import numpy as np

from models.engines.warp.painting.plane_kernels import kernel
from models.engines.warp.painting.planes import F32, U8

_HALF = np.float32(0.5)
_BESIDE_PLANE = "i8, i8, i8, f4[:,:]"


def average_cells(plane: U8 | F32, cell: float, out: F32, top: int = 0, left: int = 0) -> None:
    """Fill (m, n) `out` with the means of the cells of a plane, each `cell` pixels wide, a multiple of one half.

    The upper left pixel of the first cell is in row `top`, column `left`.
    """
    _average(plane, round(2 * cell), top, left, out)


@kernel(f"void(u1[:,::1], {_BESIDE_PLANE})", f"void(f4[:,::1], {_BESIDE_PLANE})")
def _average(plane: U8 | F32, size: int, top: int, left: int, means: F32) -> None:
    """See `average_cells`; `size` is that of a cell in half pixels, so that every edge is an integer."""
    num_columns, share = means.shape[1], np.float32(4 / (size * size))
    width = (num_columns * size + 1) // 2
    sums = np.empty(width, np.float32)
    for j in range(means.shape[0]):
        first, stop = j * size, (j + 1) * size
        sums[:] = 0
        for row in range(first // 2, (stop + 1) // 2):
            weight = _HALF * np.float32(min(2 * row + 2, stop) - max(2 * row, first))
            for i in range(np.uint64(width)):
                sums[i] += weight * np.float32(plane[np.uint64(top + row), np.uint64(left) + i])
        for k in range(num_columns):
            first, stop, total = k * size, (k + 1) * size, np.float32(0)
            for i in range(first // 2, (stop + 1) // 2):
                total += sums[i]
            if first % 2:
                total -= _HALF * sums[first // 2]
            if stop % 2:
                total -= _HALF * sums[stop // 2]
            means[j, k] = share * total


def mask_cells(mask: U8, cell: int) -> tuple[U8, U8]:
    """Return in which pairs of cells a mask is above 0, and in which it is 255, each including the pixels beside them.

    The mask has half the size of the region, so that a pair of cells is `cell` of its pixels wide. Both are
    (16, 16), 0 or 1.
    """
    shape = mask.shape[0] // cell, mask.shape[1] // cell
    shown, full = np.zeros(shape, np.uint8), np.zeros(shape, np.uint8)
    _mask_cells(mask, cell, shown, full)
    return shown, full


@kernel("void(u1[:,::1], i8, u1[:,::1], u1[:,::1])")
def _mask_cells(mask: U8, cell: int, shown: U8, full: U8) -> None:
    """See `mask_cells`."""
    height, width = mask.shape
    low, high = np.empty(width, np.uint8), np.empty(width, np.uint8)
    for j in range(shown.shape[0]):
        low[:], high[:] = 255, 0
        for row in range(max(j * cell - 1, 0), min(j * cell + cell + 1, height)):
            for i in range(np.uint64(width)):
                low[i], high[i] = min(low[i], mask[row, i]), max(high[i], mask[row, i])
        for k in range(shown.shape[1]):
            least, most = np.uint8(255), np.uint8(0)
            for i in range(max(k * cell - 1, 0), min(k * cell + cell + 1, width)):
                least, most = min(least, low[i]), max(most, high[i])
            shown[j, k], full[j, k] = most > 0, least == 255
