"""Where in a box of pixels the lips meet: what lies between them is worked out there only. Used by `cpu`."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from models.engines.warp.painting.cpu_planes import F32, grid
from models.engines.warp.painting.seam import (
    MouthAxes,
    MouthCoords,
    hollow,
    inside_alpha,
    lower_layer_weight,
    mouth_coords,
    rim_feather,
    side_weight,
)

_MARGIN = 1.5  # pixels around what lies between the lips: what rounding may add


class Lips(NamedTuple):
    """The lips of one face in a box of (h, w) pixels.

    Attributes:
        share: (h, w) `lower_layer_weight`.
        mixed: Rows of the box in which that is neither 0 nor 1 all along.
        near: Rows and columns of the box that hold all that lies between the lips.
        coords: Mouth coordinates there, (1, n, m).
        opening: (n, m) `inside_alpha` there.
        dark: (n, m) `hollow` there.
    """

    share: F32
    mixed: slice
    near: tuple[slice, slice]
    coords: MouthCoords
    opening: F32
    dark: F32


def find_lips(axes: MouthAxes, where: tuple[slice, slice], eye_distance: F32, hard: float) -> Lips:
    """Finds them.

    Args:
        axes: One mouth.
        where: Rows and columns of the box in the region.
        eye_distance: (1,) pixels.
        hard: See `lower_layer_weight`.
    """
    grid_x, grid_y = grid(where)
    width = grid_x.shape[2]
    mixed = _mixed_rows(axes, grid_x, grid_y)
    side, is_between = side_weight(axes, grid_x, grid_y[:, mixed], hard)
    share = np.empty((grid_y.shape[1], width), np.float32)
    share[: mixed.start], share[mixed], share[mixed.stop :] = 0, side[0], 1
    near = _near(axes, grid_x, grid_y, mixed)
    rows, columns = near
    coords = mouth_coords(np, axes, grid_x[..., columns], grid_y[:, rows])
    weight = lower_layer_weight(coords, hard)
    is_between = is_between[0, :, columns]
    share[mixed.start : rows.start, columns] *= ~is_between[: rows.start - mixed.start]
    below = share[rows.stop : mixed.stop, columns]
    np.maximum(below, is_between[rows.stop - mixed.start :], out=below)
    share[rows, columns] = weight[0]
    return Lips(share, mixed, near, coords, inside_alpha(coords)[0], hollow(coords, weight, eye_distance)[0])


def _mixed_rows(axes: MouthAxes, grid_x: F32, grid_y: F32) -> slice:
    """The rows in which the upper layer changes to the lower one."""
    centre, along, half_width = axes.centre[0], axes.along[0], float(axes.half_width[0])
    dx = grid_x[0, 0, [0, -1]] - centre[0]
    dy = grid_y[0, [0, -1], 0] - centre[1]
    # Half of the widest change from layer to layer: beside the mouth it grows by 0.9 pixels a pixel.
    beside = abs(dx).max() * abs(along[0]) + abs(dy).max() * abs(along[1]) - half_width
    reach = 0.45 * max(float(beside), 0.0) + 0.5 * float(np.ptp(axes.lips[0])) + 0.05 * half_width + 2
    return _rows(axes, dx * along[1], reach, grid_y)


def _near(axes: MouthAxes, grid_x: F32, grid_y: F32, mixed: slice) -> tuple[slice, slice]:
    """Rows and columns of the pixels between the mouth's corners, not far above the upper lip and below the lower."""
    centre, along, half_width = axes.centre[0], axes.along[0], axes.half_width[0]
    turned = (grid_y[0, [mixed.start, mixed.stop - 1], 0] - centre[1]) * along[1]
    across = (grid_x[0, 0] - centre[0]) * along[0]
    between = np.flatnonzero((across > -half_width - turned.max() - 1) & (across < half_width - turned.min() + 1))
    columns = slice(int(between[0]), int(between[-1]) + 1) if len(between) else slice(0, 0)
    dx = grid_x[0, 0, columns] - centre[0]
    reach = float(0.25 * rim_feather(half_width)) + _MARGIN
    tilt = dx[[0, -1]] * along[1] if len(dx) else np.zeros(1, np.float32)
    rows = _rows(axes, tilt, reach, grid_y)
    first, last = (min(max(edge, mixed.start), mixed.stop) for edge in (rows.start, rows.stop))
    return slice(first, max(first, last)), columns


def _rows(axes: MouthAxes, tilt: F32, reach: float, grid_y: F32) -> slice:
    """The rows that are at most `reach` pixels away from the lips' highest and lowest point."""
    lips, turn = axes.lips[0], max(float(axes.along[0, 0]), 1e-3)
    top, height = float(grid_y[0, 0, 0] - axes.centre[0, 1]), grid_y.shape[1]
    first = int((lips.min() - reach + tilt.min()) / turn - top)
    last = int((lips.max() + reach + tilt.max()) / turn - top) + 1
    first, last = sorted((min(max(first, 0), height - 1), min(max(last, 1), height)))
    return slice(first, last)
