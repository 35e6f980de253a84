"""Finds where in a box of pixels the lips meet, so that `render_numpy` computes the opening only there."""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np

from models.engines.warp.painting.lip_coordinates import (
    LipAxes,
    LipCoords,
    hollow,
    inside_alpha,
    lip_coords,
    lower_layer_weight,
    rim_feather,
    side_weight,
    to_lip,
)
from models.engines.warp.painting.numpy_planes import F32, Mouth, grid, halve

_MARGIN = 1.5  # pixels around the opening, for rounding
_EDGE = 0.01  # pixels around the column of a corner, for rounding


class Lips(NamedTuple):
    """The lips of one face in a box of (h, w) pixels."""

    share: F32  # (h, w) `lower_layer_weight`
    mixed: slice  # rows of the box in which `share` is not all 0 or all 1
    # Rows and columns of the box that contain everything between the lips; their edges are even
    near: tuple[slice, slice]
    coords: LipCoords  # lip coordinates in `near`, (1, n, m)
    opening: F32  # (n, m) `inside_alpha` in `near`
    dark: F32  # (n, m) `hollow` in `near`
    # Columns and rows of the box, (n, m) each: the nearest point on the edge of the upper lip for pixels beyond it,
    # and on the edge of the lower lip for pixels beyond that; elsewhere the pixel. See `to_lip`.
    edges: tuple[list[F32], list[F32]]
    # (n, m) offsets x, y from each pixel to that point, for the upper and the lower lip
    ways: tuple[list[F32], list[F32]]

    def carry(self, upper: F32, lower: F32, first: int, axis: int) -> None:
        """Makes the interior behind the lips move with the lip edges, in place.

        Args:
            upper: Source positions of the upper layer, in the upper rows of the box.
            lower: Source positions of the lower layer, in the rows from `first`.
            first: A row above `near`.
            axis: 0 if the positions are columns, 1 if rows.
        """
        rows, columns = self.near
        if self.opening.size:
            (x, y), (below_x, below_y) = self.edges
            carried = cv2.remap(upper, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
            below = cv2.remap(lower, below_x, below_y - first, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
            upper[rows, columns] = carried - self.ways[0][axis]
            lower[rows.start - first : rows.stop - first, columns] = below - self.ways[1][axis]


def find_lips(axes: LipAxes, where: tuple[slice, slice], eye_distance: F32, hard: float) -> Lips:
    """Finds the lips of one mouth in the rows and columns of a box; for `hard` see `lower_layer_weight`."""
    grid_x, grid_y = grid(where)
    mixed = _mixed_rows(axes, grid_x, grid_y)
    beside, columns = _columns(axes, grid_x, grid_y[0, mixed, 0])
    rows = _near_rows(axes, grid_x[0, 0, columns], grid_y, mixed)
    share = np.empty((grid_y.shape[1], grid_x.shape[2]), np.float32)
    share[: rows.start], share[rows.start :] = 0, 1
    for part in beside:
        side, is_between = side_weight(axes, grid_x[..., part], grid_y[:, mixed], hard)
        np.copyto(share[mixed, part], side[0], where=~is_between[0])
    coords = lip_coords(np, axes, grid_x[..., columns], grid_y[:, rows])
    share[rows, columns] = lower_layer_weight(coords, hard)[0]
    here = [part[0] for part in grid((rows, columns))]
    up, down = ([way[0] for way in to_lip(axes, coords, is_lower)] for is_lower in (False, True))
    over, under = ([place + way for place, way in zip(here, ways, strict=True)] for ways in (up, down))
    opening, dark = inside_alpha(coords)[0], hollow(coords, eye_distance)[0]
    return Lips(share, mixed, (rows, columns), coords, opening, dark, (over, under), (up, down))


def fade(mouth: Mouth, other: Mouth, weight: float, lips: Lips) -> Mouth:
    """Crossfades two mouths in the box, except in the opening."""
    mixed = [
        np.asarray(cv2.addWeighted(a, 1 - weight, b, weight, 0), np.float32)
        for a, b in zip((mouth.y, *mouth.uv), (other.y, *other.uv), strict=True)
    ]
    if lips.opening.any():
        kept = weight * lips.opening
        rows, columns = lips.near
        mixed[0][rows, columns] += kept * (mouth.y[rows, columns] - other.y[rows, columns])
        kept, rows, columns = halve(kept), *(slice(part.start // 2, part.stop // 2) for part in (rows, columns))
        for plane, a, b in zip(mixed[1:], mouth.uv, other.uv, strict=True):
            plane[rows, columns] += kept * (a[rows, columns] - b[rows, columns])
    return Mouth(mixed[0], mixed[1:])


def _mixed_rows(axes: LipAxes, grid_x: F32, grid_y: F32) -> slice:
    """Returns the rows in which the upper layer changes to the lower one."""
    centre, along, half_width = axes.centre[0], axes.along[0], float(axes.half_width[0])
    dx = grid_x[0, 0, [0, -1]] - centre[0]
    dy = grid_y[0, [0, -1], 0] - centre[1]
    # Half of the widest transition between the layers: beside the mouth it grows by 0.9 pixels per pixel.
    beside = abs(dx).max() * abs(along[0]) + abs(dy).max() * abs(along[1]) - half_width
    reach = 0.45 * max(float(beside), 0.0) + 0.5 * float(np.ptp(axes.lips[0])) + 0.05 * half_width + 2
    return _rows(axes, dx * along[1], reach, grid_y)


def _columns(axes: LipAxes, grid_x: F32, rows: F32) -> tuple[tuple[slice, slice], slice]:
    """Returns the columns outside those between the corners in all of `rows`, and those between them in any row."""
    centre, along, half_width = axes.centre[0], axes.along[0], axes.half_width[0]
    turned = (rows[[0, -1]] - centre[1]) * along[1]
    across = (grid_x[0, 0] - centre[0]) * along[0]  # ascending
    low, high = -half_width - turned, half_width - turned
    first, stop = np.searchsorted(across, [low.max() + _EDGE, high.min() - _EDGE]).tolist()
    stop = max(first, stop)
    left, right = np.searchsorted(across, [low.min() - 1, high.max() + 1]).tolist()
    return (slice(0, first), slice(stop, len(across))), slice(left & ~1, (right + 1) & ~1)


def _near_rows(axes: LipAxes, columns: F32, grid_y: F32, mixed: slice) -> slice:
    """Returns the rows between the mouth corners, with a margin above the upper and below the lower lip."""
    reach = float(0.25 * rim_feather(axes.half_width[0])) + _MARGIN
    dx = columns - axes.centre[0, 0]
    tilt = dx[[0, -1]] * axes.along[0, 1] if len(dx) else np.zeros(1, np.float32)
    rows = _rows(axes, tilt, reach, grid_y)
    first, last = (min(max(edge, mixed.start), mixed.stop) for edge in (rows.start, rows.stop))
    return slice(first, max(first, last))


def _rows(axes: LipAxes, tilt: F32, reach: float, grid_y: F32) -> slice:
    """Returns the rows at most `reach` pixels from the highest and lowest point of the lips."""
    lips, turn = axes.lips[0], max(float(axes.along[0, 0]), 1e-3)
    top, height = float(grid_y[0, 0, 0] - axes.centre[0, 1]), grid_y.shape[1]
    first = int((lips.min() - reach + tilt.min()) / turn - top)
    last = int((lips.max() + reach + tilt.max()) / turn - top) + 1
    first, last = sorted((min(max(first, 0), height - 1), min(max(last, 1), height)))
    return slice(first & ~1, (last + 1) & ~1)
