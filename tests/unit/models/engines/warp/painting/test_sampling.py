"""The kernels against OpenCV's sampling."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from models.engines.warp.painting.planes import F32, U8
from models.engines.warp.painting.sampling import sample_cubic, sample_linear

_CELL = 7
_ROWS, _COLUMNS = 12, 18  # pairs of cells
_HEIGHT, _WIDTH = 2 * _CELL * _ROWS, 2 * _CELL * _COLUMNS
_ALL = np.ones((_ROWS, _COLUMNS), np.uint8)


def _plane(height: int, width: int) -> U8:
    plane: U8 = np.random.default_rng(1).integers(0, 256, (height, width), np.uint8)
    plane.flags.writeable = False  # as in an object store
    return plane


def _egg(height: int, width: int) -> U8:
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    return np.asarray(255 * (1 - x**2 - y**2).clip(0, 0.5) * 2, np.uint8)


def _warp(kind: str) -> tuple[F32, F32]:
    """Positions of a box in a plane of the same size; most of them lead beyond its edge somewhere."""
    y, x = (axis.astype(np.float32) for axis in np.mgrid[:_HEIGHT, :_WIDTH])
    if kind == "smooth":
        return x * np.float32(1.05) - 8, y + 3 * np.sin(x / 40)
    if kind == "still":  # rounding errors around whole pixels
        noise = np.random.default_rng(2).uniform(-1e-5, 1e-5, (2, *x.shape)).astype(np.float32)
        return x + noise[0], y + noise[1]
    if kind == "shrunk":
        return x * np.float32(2.3) - 60, y * np.float32(0.4) - 9
    return x, np.where(y < 80, y - 12, y + np.float32(15.4))  # torn


@pytest.mark.parametrize("kind", ["smooth", "still", "shrunk", "torn"])
def test_sample_cubic_equals_cv2_remap(kind: str) -> None:
    plane, place, out = _plane(_HEIGHT, _WIDTH), _warp(kind), np.zeros((_HEIGHT, _WIDTH), np.uint8)
    sample_cubic(plane, place, _ALL, out)
    wanted = cv2.remap(plane, *place, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
    difference = np.abs(out.astype(int) - wanted)
    assert difference.max() <= 1
    assert difference.mean() < 1e-3


@pytest.mark.parametrize("kind", ["smooth", "still", "shrunk", "torn"])
def test_sample_linear_reads_at_upper_left_luma_pixel(kind: str) -> None:
    planes, place = np.stack([_plane(_HEIGHT // 2, _WIDTH // 2), _egg(_HEIGHT // 2, _WIDTH // 2)]), _warp(kind)
    out = np.zeros_like(planes)
    planes.flags.writeable = False
    sample_linear(planes, place, _ALL, out)
    x, y = (np.asarray(axis[::2, ::2] / 2, np.float32) for axis in place)
    for read, plane in zip(out, planes, strict=True):
        # In float32, because OpenCV rounds the positions of bytes
        wanted = cv2.remap(plane.astype(np.float32), x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        difference = np.abs(read - np.rint(wanted))
        assert difference.max() <= 1
        assert difference.mean() < 0.03


def test_sample_positions_beyond_edge_read_corners() -> None:
    """Farther than integers reach: a fold in a spline can throw pixels anywhere."""
    y, x = np.mgrid[:_HEIGHT, :_WIDTH]
    place = tuple(np.where(axis < axis.max() / 2, -1e30, 1e12).astype(np.float32) for axis in (x, y))
    luma = _plane(40, 60)
    chroma, read = np.stack([luma, 255 - luma]), np.zeros((_HEIGHT, _WIDTH), np.uint8)
    mixed = np.zeros((2, _HEIGHT // 2, _WIDTH // 2), np.uint8)
    sample_cubic(luma, place, _ALL, read)
    sample_linear(chroma, place, _ALL, mixed)
    corners = np.ix_(np.where(y[:, 0] < _HEIGHT / 2, 0, 39), np.where(x[0] < _WIDTH / 2, 0, 59))
    np.testing.assert_array_equal(read, luma[corners])
    np.testing.assert_array_equal(mixed, [plane[corners][::2, ::2] for plane in chroma])


def test_sample_changes_only_needed_cells() -> None:
    plane, place, needed = _plane(_HEIGHT, _WIDTH), _warp("smooth"), _egg(_ROWS, _COLUMNS)
    whole, part = np.zeros((_HEIGHT, _WIDTH), np.uint8), np.full((_HEIGHT + 9, _WIDTH + 5), 77, np.uint8)
    sample_cubic(plane, place, _ALL, whole)
    sample_cubic(plane, place, needed, part, 4, 3)
    read = part[4 : 4 + _HEIGHT, 3 : 3 + _WIDTH]
    cells = np.kron(needed > 0, np.ones((2 * _CELL, 2 * _CELL))) > 0
    around = cv2.dilate(cells.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
    np.testing.assert_array_equal(read[around], whole[around])
    assert 0.2 < around.mean() < 0.9
    assert (read[~around] == 77).all()
    part[4 : 4 + _HEIGHT, 3 : 3 + _WIDTH] = 77
    assert (part == 77).all()

    chroma = np.stack([plane[::2, ::2]] * 2)
    out = np.full_like(chroma, 77)
    sample_linear(chroma, place, needed, out)
    assert (out[:, ~cells[::2, ::2]] == 77).all()
    assert (out[:, cells[::2, ::2]] != 77).mean() > 0.9
