"""What is worked out around the lips only is what the whole box would give."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from models.engines.warp.painting.lip_coordinates import (
    LipAxes,
    hollow,
    inside_alpha,
    lip_axes,
    lip_coords,
    lower_layer_weight,
    part_jaws,
)
from models.engines.warp.painting.lips import find_lips
from models.engines.warp.painting.numpy_planes import grid

_BOX = slice(10, 170), slice(4, 244)


def _axes(gap: float, tilt: float, bow: float = 0.0) -> LipAxes:
    """A mouth 100 pixels wide whose exemplar is open by 12; `bow` carries both lips below its corners."""
    x = np.linspace(-50, 50, 11)
    arch = 1 - (x / 50) ** 2
    turn = np.array([[np.cos(tilt), np.sin(tilt)], [-np.sin(tilt), np.cos(tilt)]])
    upper, lower = (np.stack([x, (bow + share * gap) * arch], 1) @ turn + [120, 80] for share in (-0.4, 0.6))
    axes = lip_axes(upper[None], lower[None])
    own: NDArray[np.float32] = np.full((1, axes.lips.shape[-1]), 12, np.float32)
    return part_jaws(axes, own, np.array([0.6], np.float32))


@pytest.mark.parametrize("hard", [0.0, 0.5, 1.0])
@pytest.mark.parametrize(("gap", "tilt", "bow"), [(0, 0, 0), (6, 0.1, 8), (40, -0.3, -6), (25, 0.02, 0), (90, 0.2, 10)])
def test_nothing_is_missed_that_the_whole_box_shows(gap: float, tilt: float, bow: float, hard: float) -> None:
    axes, unit = _axes(gap, tilt, bow), np.array([160], np.float32)
    lips = find_lips(axes, _BOX, unit, hard)
    coords = lip_coords(np, axes, *grid(_BOX))
    weight = lower_layer_weight(coords, hard)
    np.testing.assert_allclose(lips.share, weight[0], atol=2e-3)
    for found, whole in ((lips.opening, inside_alpha(coords)[0]), (lips.dark, hollow(coords, unit)[0])):
        filled = np.zeros_like(whole)
        filled[lips.near] = found
        np.testing.assert_allclose(filled, whole, atol=1e-5)


def test_an_open_mouth_takes_a_part_of_the_box_only() -> None:
    lips = find_lips(_axes(25, 0.02), _BOX, np.array([160], np.float32), 0.0)
    assert lips.opening.max() > 0.9
    assert lips.opening.size < 0.15 * lips.share.size


def test_what_stands_behind_a_lip_goes_with_its_edge() -> None:
    """Fields that stretch by a third: behind the lips they stretch nothing."""
    axes = _axes(40, 0.0)
    lips = find_lips(axes, _BOX, np.array([160], np.float32), 0.0)
    rows: NDArray[np.float32] = np.arange(160, dtype=np.float32)
    places = rows + rows / np.float32(3)
    upper, lower = (np.repeat(places[:, None], 240, 1) for _ in range(2))
    lips.carry(upper, lower[20:], 20, axis=1)
    upper, lower = upper - rows[:, None], lower - rows[:, None]  # the shifts
    middle = 120 - _BOX[1].start
    above, below = (round(float(edge)) - _BOX[0].start for edge in (80 - 0.4 * 40, 80 + 0.6 * 40))
    np.testing.assert_allclose(upper[above : below - 1, middle], above / 3, atol=0.2)
    np.testing.assert_allclose(lower[above + 1 : below, middle], below / 3, atol=0.2)
    np.testing.assert_allclose(upper[: above - 1, middle], rows[: above - 1] / 3, atol=1e-4)
    np.testing.assert_allclose(lower[below + 2 :, middle], rows[below + 2 :] / 3, atol=1e-4)
