"""The kernels against OpenCV and against single cells."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from models.engines.warp.painting.cells import average_cells, mask_cells
from models.engines.warp.painting.planes import U8, Box
from models.geometry.thin_plate import GRID

_BOX, _CELL = Box(6, 4, 26, 20), 7


@pytest.mark.parametrize("cell", [_CELL, _CELL / 2])
def test_average_cells_weights_by_area(cell: float) -> None:
    rows, columns = _BOX.pixels(cell)
    shape = _BOX.bottom - _BOX.top, _BOX.right - _BOX.left
    size = round(GRID * cell)
    plane: U8 = np.random.default_rng(0).integers(0, 256, (size, size), np.uint8)
    seen = plane[rows, columns].astype(np.float32)
    wanted = cv2.resize(seen, shape[::-1], interpolation=cv2.INTER_AREA)
    for pixels, top, left in ((plane, rows.start, columns.start), (seen, 0, 0)):
        means = np.empty(shape, np.float32)
        average_cells(pixels, cell, means, top, left)
        np.testing.assert_allclose(means, wanted, atol=1e-3)


def test_mask_cells_include_neighbouring_pixels() -> None:
    y, x = np.mgrid[-1 : 1 : 16j * _CELL, -1 : 1 : 16j * _CELL]
    mask = np.asarray(255 * (1 - x**2 - y**2).clip(0, 0.5) * 2, np.uint8)
    shown, full = mask_cells(mask, _CELL)
    padded = np.pad(mask, 1, "edge")
    for j in range(16):
        for i in range(16):
            around = padded[j * _CELL : (j + 1) * _CELL + 2, i * _CELL : (i + 1) * _CELL + 2]
            assert shown[j, i] == (around.max() > 0)
            assert full[j, i] == (around.min() == 255)
    assert 0 < full.sum() < shown.sum() < 256
