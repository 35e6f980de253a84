"""What is read of a picture is what a mask covers, in whole cells."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from models.engines.warp.painting.planes import EVERYWHERE, U8, cubic, spans

_CELL = 7


def _egg(height: int, width: int) -> U8:
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    return np.asarray(255 * (x**2 + y**2 < 0.9), np.uint8)


def test_spans_hold_the_whole_cells_of_a_mask_and_little_more() -> None:
    mask = _egg(12 * _CELL, 18 * _CELL)
    read = np.zeros((2 * mask.shape[0], 2 * mask.shape[1]), bool)
    for part in spans(mask, _CELL):
        read[part] = True
    cells: NDArray[np.bool_] = mask.reshape(12, _CELL, 18, _CELL).max((1, 3)) > 0
    covered: NDArray[np.bool_] = read.reshape(12, 2 * _CELL, 18, 2 * _CELL).min((1, 3))
    assert covered[cells].all()
    assert not read.all()
    assert not spans(np.zeros_like(mask), _CELL)


def test_a_part_that_is_read_is_that_of_the_whole() -> None:
    mask = _egg(12 * _CELL, 18 * _CELL)
    shape = 2 * mask.shape[0], 2 * mask.shape[1]
    plane: NDArray[np.uint8] = np.random.default_rng(1).integers(0, 256, shape, np.uint8)
    rows, columns = (axis.astype(np.float32) for axis in np.mgrid[: shape[0], : shape[1]])
    place = [columns + 0.3, rows - 0.6]
    whole, part = cubic(plane, place, EVERYWHERE), cubic(plane, place, spans(mask, _CELL))
    shown = np.kron(mask, np.ones((2, 2), np.uint8)) > 0
    np.testing.assert_array_equal(part[shown], whole[shown])
