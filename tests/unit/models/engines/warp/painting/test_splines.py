"""The splines of the CPU against those of `thin_plate`."""

from __future__ import annotations

import numpy as np
import pytest

from models.engines.warp.painting.fields import LAYERS, NUM_CONTROLS, grid_points
from models.engines.warp.painting.splines import spline_fields
from models.geometry import thin_plate
from models.geometry.thin_plate import GRID, RIDGE

_SIZE = 224


@pytest.mark.parametrize("num_channels", [6, 8])
@pytest.mark.parametrize("num_ignored", [0, 12])
def test_fields_equal_exact_splines(num_channels: int, num_ignored: int) -> None:
    rng = np.random.default_rng(num_channels)
    points = rng.uniform(-0.4, 0.4, (NUM_CONTROLS, 2))
    # Pixels: a shift, a turn, and landmarks that move each by itself
    turn = rng.normal(0, 40, (2, num_channels))
    values = 12 + points @ turn + rng.normal(0, 1, (NUM_CONTROLS, num_channels))
    ridge = np.where(np.arange(NUM_CONTROLS) < num_ignored, 1.0, RIDGE)
    weights = thin_plate.fit(np, points[None], values[None], LAYERS, ridge[None])
    exact = thin_plate.evaluate(np, points[None], weights, grid_points(_SIZE).astype(np.float64))[0]
    fields = spline_fields(points, values, ridge, _SIZE)
    assert fields.shape == (2, num_channels, GRID, GRID)
    np.testing.assert_allclose(fields, exact.T.reshape(fields.shape), atol=0.01)
    assert np.abs(fields[0] - fields[1]).max() > 1  # the layers differ


def test_spline_coincident_points_raise() -> None:
    points = np.zeros((NUM_CONTROLS, 2))
    with pytest.raises(np.linalg.LinAlgError, match="singular"):
        spline_fields(points, points, np.full(NUM_CONTROLS, RIDGE), _SIZE)
