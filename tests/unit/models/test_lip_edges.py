"""The true edges of open lips, found in drawn mouths whose edges are known."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from media.planes import Planes
from models.face_points import INNER_LOWER, INNER_UPPER, NUM_POINTS
from models.warp.lip_edges import inner_lip_shifts, move_inner_lips

_SIDE = 96
_MESH_TOP, _MESH_BOTTOM = 40.0, 64.0  # rows in the middle of the mouth


def _points(gap: float = _MESH_BOTTOM - _MESH_TOP) -> NDArray[np.float32]:
    """Landmarks whose inner lips bow apart by up to `gap` pixels."""
    points = np.zeros((NUM_POINTS, 3), np.float32)
    x = np.linspace(18, 78, 11)
    bow = (1 - ((x - 48) / 30) ** 2) * gap / 2
    middle = (_MESH_TOP + _MESH_BOTTOM) / 2
    points[list(INNER_UPPER), 0] = points[list(INNER_LOWER), 0] = x
    points[list(INNER_UPPER), 1], points[list(INNER_LOWER), 1] = middle - bow, middle + bow
    return points


def _picture(top: float, bottom: float) -> Planes:
    """Teeth between two bows, lips around them; `top` and `bottom` are rows in the middle of the mouth."""
    columns, rows = np.meshgrid(np.arange(_SIDE), np.arange(_SIDE))
    bow = (1 - ((columns - 48) / 30) ** 2).clip(0)
    middle = (_MESH_TOP + _MESH_BOTTOM) / 2
    inside = (rows > middle - bow * (middle - top)) & (rows < middle + bow * (bottom - middle))
    luma = np.where(inside, 200, 110).astype(np.uint8)
    u = np.where(inside, 122, 118)[::2, ::2].astype(np.uint8)
    v = np.where(inside, 130, 152)[::2, ::2].astype(np.uint8)
    return Planes(luma, u, v)


def test_the_edges_are_found_where_they_are() -> None:
    shifts = inner_lip_shifts(_picture(44.0, 62.5), _points())
    moved = move_inner_lips(_points()[None], shifts)[0]
    np.testing.assert_allclose(moved[list(INNER_UPPER[4:7]), 1], [44.3, 44.0, 44.3], atol=1.2)
    np.testing.assert_allclose(moved[list(INNER_LOWER[4:7]), 1], [62.2, 62.5, 62.2], atol=1.2)
    corners = [INNER_UPPER[0], INNER_UPPER[-1]]
    np.testing.assert_array_equal(moved[corners], _points()[corners])


def test_a_shut_mouth_stays_as_it_is() -> None:
    shifts = inner_lip_shifts(_picture(44.0, 62.0), _points(gap=3.0))
    np.testing.assert_array_equal(shifts, 0)
