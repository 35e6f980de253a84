"""The kernels against the formulas of `lip_coordinates`, which they follow."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from models.engines.warp.painting.lip_coordinates import (
    LipAxes,
    cavity,
    inside_alpha,
    lip_axes,
    lip_coords,
    lower_layer_weight,
    part_jaws,
)
from models.engines.warp.painting.lips import Lips
from models.engines.warp.painting.planes import PAD, Box, grid, halve
from models.geometry.thin_plate import GRID

_CELL = 8
_BOX = Box(0, 2, 30, 22)
_ROWS, _COLUMNS = _BOX.pixels(_CELL)


def _axes(gap: float, tilt: float, bow: float = 0.0) -> LipAxes:
    """A mouth 100 pixels wide whose exemplar is open by 12; `bow` carries both lips below its corners."""
    x = np.linspace(-50, 50, 11)
    arch = 1 - (x / 50) ** 2
    turn = np.array([[np.cos(tilt), np.sin(tilt)], [-np.sin(tilt), np.cos(tilt)]])
    upper, lower = (np.stack([x, (bow + share * gap) * arch], 1) @ turn + [120, 80] for share in (-0.4, 0.6))
    axes = lip_axes(upper[None], lower[None])
    own: NDArray[np.float32] = np.full((1, axes.lips.shape[-1]), 12, np.float32)
    return part_jaws(axes, own, np.array([0.6], np.float32))


@pytest.mark.parametrize(("hard", "closing", "rim"), [(0.0, 0.0, 0.0), (0.5, 1.0, 0.0), (1.0, 0.4, 0.1)])
@pytest.mark.parametrize(("gap", "tilt", "bow"), [(0, 0, 0), (6, 0.1, 8), (40, -0.3, -6), (25, 0.02, 0), (90, 0.2, 10)])
def test_lips_find_equals_whole_box(
    gap: float, tilt: float, bow: float, hard: float, closing: float, rim: float
) -> None:
    axes, unit = _axes(gap, tilt, bow), np.array([160], np.float32)
    lips = Lips.find(axes, _BOX, _CELL, 160.0, hard, closing, rim)
    coords = lip_coords(np, axes, *grid((_ROWS, _COLUMNS)))
    weight = lower_layer_weight(coords, hard)
    np.testing.assert_allclose(lips.share, weight[0], atol=5e-3)
    opening, dark = inside_alpha(coords, rim), cavity(coords, unit, closing, rim)
    for found, whole in ((lips.opening, opening[0]), (lips.dark, dark[0])):
        filled = np.zeros_like(whole)
        filled[lips.near] = found
        np.testing.assert_allclose(filled, whole, atol=1e-5)


def test_lips_find_open_mouth_covers_part_of_box() -> None:
    lips = Lips.find(_axes(25, 0.02), _BOX, _CELL, 160.0, 0.0, 0.0, 0.0)
    assert lips.opening.max() > 0.9
    assert lips.opening.size < 0.15 * lips.share.size


@pytest.mark.parametrize("shift", [(0, 400), (0, -400), (400, 0), (-400, -400)])
def test_lips_find_lips_outside_box_have_no_opening(shift: tuple[int, int]) -> None:
    """As in turned heads, of whose mouth mask only a part is left. The fade of chroma halves the opening."""
    axes = _axes(40, 0.1)
    outside = axes._replace(centre=axes.centre + np.array(shift, np.float32))
    lips = Lips.find(outside, _BOX, _CELL, 160.0, 0.0, 1.0, 0.0)
    assert not lips.opening.any()
    assert not halve(lips.opening).any()


def _positions(stretch: float) -> NDArray[np.float32]:
    """The (2, 36, 36) padded cells of a layer whose rows are stretched from the upper edge of the region."""
    cells = (np.arange(-PAD, GRID + PAD, dtype=np.float32) + 0.5) * _CELL - 0.5
    columns, rows = np.meshgrid(cells, cells * np.float32(1 + stretch))
    return np.stack([columns, rows])


def test_lips_place_behind_lip_follows_its_edge() -> None:
    """Fields that stretch by a third: behind the lips they stretch nothing."""
    layers = np.stack([_positions(1 / 3), _positions(1 / 3)])
    place = Lips.find(_axes(40, 0.0), _BOX, _CELL, 160.0, 0.0, 0.0, 0.0).place(layers, _BOX, _CELL)
    rows, middle = np.arange(_ROWS.start, _ROWS.stop), 120 - _COLUMNS.start
    shift = place[1, :, middle] - rows
    above, below = (float(edge) for edge in (80 - 0.4 * 40, 80 + 0.6 * 40))
    # The jaws part at .6 of the gap of the exemplar, 12 pixels, below the upper lip.
    upper_jaw, lower_jaw = above + 0.6 * 12, below - 0.4 * 12
    beyond = (rows < above - 1) | (rows > below + 1)
    np.testing.assert_allclose(shift[beyond], rows[beyond] / 3, atol=1e-4)
    np.testing.assert_allclose(shift[(rows > above + 1) & (rows < upper_jaw)], above / 3, atol=0.2)
    np.testing.assert_allclose(shift[(rows > lower_jaw) & (rows < below - 1)], below / 3, atol=0.2)
    np.testing.assert_allclose(place[0, :, middle], np.full(len(rows), 120), atol=1e-3)


def test_lips_place_far_from_lips_uses_own_layer() -> None:
    layers = np.stack([_positions(0.25), _positions(0.5)])
    lips = Lips.find(_axes(12, 0.1), _BOX, _CELL, 160.0, 0.0, 0.0, 0.0)
    place = lips.place(layers, _BOX, _CELL)
    rows = np.arange(_ROWS.start, _ROWS.stop, dtype=np.float32)[:, None] + np.zeros_like(lips.share)
    for weight, stretch in ((0, 0.25), (1, 0.5)):
        where = lips.share == weight
        where[lips.near] = False
        assert where.mean() > 0.2
        np.testing.assert_allclose(place[1][where], rows[where] * (1 + stretch), atol=1e-3)
