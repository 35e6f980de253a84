"""Where in a box of pixels the lips meet: what lies between them is worked out there only. Used by `cpu`."""

from __future__ import annotations

from typing import NamedTuple

import cv2
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
    to_lip,
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
        edges: Columns and rows of the box, (n, m) each, where the pixels beyond the upper lip's edge meet it, and where
            those beyond the lower lip's edge meet that; elsewhere their own. See `to_lip`.
    """

    share: F32
    mixed: slice
    near: tuple[slice, slice]
    coords: MouthCoords
    opening: F32
    dark: F32
    edges: tuple[list[F32], list[F32]]

    def carry(self, upper: F32, lower: F32, first: int) -> None:
        """Makes what stands behind the lips go with their edges, in place.

        Args:
            upper: The upper layer's shifts of the box's upper rows.
            lower: The lower layer's, of the rows from `first` on.
            first: A row above `near`.
        """
        rows, columns = self.near
        if self.opening.size:
            (x, y), (below_x, below_y) = self.edges
            carried = cv2.remap(upper, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
            below = cv2.remap(lower, below_x, below_y - first, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
            upper[rows, columns], lower[rows.start - first : rows.stop - first, columns] = carried, below


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
    here = np.meshgrid(*(np.arange(part.start, part.stop, dtype=np.float32) for part in (columns, rows)))
    ways = [to_lip(axes, coords, is_lower) for is_lower in (False, True)]
    over, under = ([place + way[0] for place, way in zip(here, layer, strict=True)] for layer in ways)
    opening, dark = inside_alpha(coords)[0], hollow(coords, eye_distance)[0]
    return Lips(share, mixed, near, coords, opening, dark, (over, under))


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
