"""Where the lips are in the mouth box, and from where each pixel of the box is read.

The formulas are those of `lip_coordinates`, for one mouth and in one pass. A box has (h, w) pixels; the part of it that
is near the lips has (n, m) pixels.
"""

from __future__ import annotations

from typing import NamedTuple, Self

import numpy as np

from models.engines.warp.painting.lip_coordinates import (
    CAVITY,
    CORNER,
    CUT,
    PARTED,
    RIM,
    TOUCHING,
    LipAxes,
    near_lips,
)
from models.engines.warp.painting.plane_kernels import Real, across, down_to, inline, kernel
from models.engines.warp.painting.planes import F32, PAD, Box

_LAST_SAMPLE = np.float32(64 - 0.001)  # of a lip line
_BESIDE = np.float32(1e6)  # pixels
_ZERO, _QUARTER, _HALF, _ONE = (np.float32(value) for value in (0, 0.25, 0.5, 1))
_CUT, _CAVITY, _TOUCHING, _RIM = (np.float32(value) for value in (CUT, CAVITY, TOUCHING, RIM))
_PER_PARTED = np.float32(1 / PARTED)
_PAD = np.float32(PAD - 0.5)  # as in `plane_kernels`
_U1 = np.uint64(1)


class Lips(NamedTuple):
    """The lips of one face in the mouth box."""

    share: F32  # (h, w) `lower_layer_weight`
    # Rows and columns of the box that contain everything between the lips; their edges are even
    near: tuple[slice, slice]
    opening: F32  # (n, m) `inside_alpha` in `near`
    dark: F32  # (n, m) `cavity` in `near`
    offset: F32  # (n, m) pixels across the mouth from the middle between the lips; very large beside the mouth
    beyond: F32  # (2, n, m) pixels across the mouth to the edge of the upper and of the lower lip, see `to_lip`
    along: F32  # (2,) direction of the mouth

    @classmethod
    def find(
        cls, axes: LipAxes, box: Box, cell: int, eye_distance: float, hard: float, closing: float, lower_rim: float
    ) -> Self:
        """Find the lips of the one mouth in `axes`.

        For `hard` see `lower_layer_weight`, for `closing` see `cavity`, for `lower_rim` see `inside_alpha`.
        """
        rows, columns = box.pixels(cell)
        share = np.empty((rows.stop - rows.start, columns.stop - columns.start), np.float32)
        centre, along, half_width, lines = axes.centre[0], axes.along[0], float(axes.half_width[0]), axes.lips[0]
        corner = centre - (columns.start, rows.start)  # in the box
        near = near_lips(corner, along, half_width, lines, share.shape)
        shape = tuple(part.stop - part.start for part in near)
        opening, dark, offset = np.zeros((3, *shape), np.float32)
        lips = cls(share, near, opening, dark, offset, np.zeros((2, *shape), np.float32), along)
        mouth = corner.astype(np.float32), along, half_width, hard
        _weigh_sides(*mouth, share)
        rest = eye_distance, closing, lower_rim * half_width
        _find_lips(*mouth, lines, *rest, near[0].start, near[1].start, share, *lips[2:6])
        return lips

    def place(self, layers: F32, box: Box, cell: int) -> F32:
        """Return the (2, h, w) source positions x, y of the box, blended between the layers.

        Args:
            layers: (2, 2, 36, 36) padded positions x, y of the upper and the lower layer.
            box: The box in which the lips were found.
            cell: Pixels per cell.
        """
        left, top = box.left * cell, box.top * cell
        place = np.empty((2, *self.share.shape), np.float32)
        _blend_layers(layers, cell, left, top, self.share, place)
        _carry(
            layers, cell, left, top, self.along, self.share, self.near[0].start, self.near[1].start, self.beyond, place
        )
        return place


@inline
def _clip(value: Real) -> Real:
    return min(max(value, _ZERO), _ONE)


@kernel("void(f4[::1], f4[::1], f4, f4, f4[:,::1])")
def _weigh_sides(centre: F32, along: F32, half_width: float, hard: float, share: F32) -> None:
    """Fill `share` with the weight of the lower layer as `lower_layer_weight` is beside the mouth."""
    one, half, growth = np.float32(1), np.float32(0.5), np.float32(0.9)
    least, unit = np.float32(0.02 + 0.78 * (1 - hard)), np.float32(1 / half_width)
    for row in range(share.shape[0]):
        dy = np.float32(row - centre[1])
        x_here, y_here = dy * along[1], dy * along[0]
        for column in range(share.shape[1]):
            dx = np.float32(column) - centre[0]
            beside = abs(dx * along[0] + x_here) * unit - one
            side = least + growth * max(beside, np.float32(0)) * half_width
            share[row, column] = min(max((y_here - dx * along[1]) / side + half, np.float32(0)), one)


@kernel(
    "void(f4[::1], f4[::1], f4, f4, f4[:,::1], f4, f4, f4, i8, i8, f4[:,::1], f4[:,::1], f4[:,::1], f4[:,::1], "
    "f4[:,:,::1])"
)
def _find_lips(
    centre: F32,
    along: F32,
    half_width: float,
    hard: float,
    lines: F32,
    eye_distance: float,
    closing: float,
    lower_rim: float,
    top: int,
    left: int,
    share: F32,
    opening: F32,
    dark: F32,
    offset: F32,
    beyond: F32,
) -> None:
    """Fill the other arrays of `Lips`, which are zero, and `share` between the corners."""
    soft, unit, width = _ONE - hard, _ONE / half_width, opening.shape[1]
    feather, jaws = max(_RIM * half_width, _ONE), _CAVITY * eye_distance
    edge, least = max(_HALF * jaws, _ONE), np.float32(0.02) + np.float32(0.78) * soft
    places, ys = np.empty(width, np.float32), np.empty(width, np.float32)
    upper, lower = np.empty(width, np.float32), np.empty(width, np.float32)
    start, stop = np.empty(width, np.float32), np.empty(width, np.float32)
    for row in range(opening.shape[0]):
        dy = np.float32(top + row - centre[1])
        for i in range(np.uint64(width)):
            dx = np.float32(left + np.float32(i) - centre[0])
            places[i], ys[i] = (dx * along[0] + dy * along[1]) * unit, dy * along[0] - dx * along[1]
        for i in range(np.uint64(width)):
            place = min(max((places[i] + _ONE) * np.float32(32), _ZERO), _LAST_SAMPLE)
            k = np.uint64(np.int32(place))
            part = place - np.float32(k)
            upper[i] = lines[0, k] + part * (lines[0, k + _U1] - lines[0, k])
            lower[i] = lines[1, k] + part * (lines[1, k + _U1] - lines[1, k])
            start[i] = lines[2, k] + part * (lines[2, k + _U1] - lines[2, k])
            stop[i] = lines[3, k] + part * (lines[3, k + _U1] - lines[3, k])
        for i in range(np.uint64(width)):
            y, gap, jaw_gap, inside = ys[i], lower[i] - upper[i], stop[i] - start[i], abs(places[i]) < _ONE
            opened = _clip(gap * unit * np.float32(1 / 0.06) - _ONE)
            parted, middle = soft * opened, _HALF * (upper[i] + lower[i])
            cut = gap * (soft - parted) + parted * max(jaw_gap, _CUT * half_width)
            line = middle + parted * (_HALF * (start[i] + stop[i]) - middle)
            weight = _clip((y - line) / max(cut, least) + _HALF)
            row_of_box, column_of_box = np.uint64(top + row), np.uint64(left) + i
            share[row_of_box, column_of_box] = weight if inside else share[row_of_box, column_of_box]
            offset[row, i] = y - middle if inside else _BESIDE
            beyond[0, row, i] = min(upper[i] - y, _ZERO) if inside else _ZERO
            beyond[1, row, i] = max(lower[i] - y, _ZERO) if inside else _ZERO
            below, above = (y - upper[i]) / feather + _QUARTER, (lower[i] - y - lower_rim) / feather + _QUARTER
            shown = _clip(below) * _clip(above) * _clip(gap / feather)
            shown *= _clip((_ONE - abs(places[i])) * np.float32(1 / CORNER))
            opening[row, i] = shown
            below, above = (y - start[i]) / edge + _HALF, (stop[i] - y) / edge + _HALF
            cavity = opened * _clip(jaw_gap / jaws) * _clip(below) * _clip(above)
            narrow = _ONE - _clip((gap / eye_distance - _TOUCHING) * _PER_PARTED)
            dark[row, i] = max(cavity, closing * narrow * shown) if inside else _ZERO


@kernel("void(f4[:,:,:,::1], f4, i8, i8, f4[:,::1], f4[:,:,::1])")
def _blend_layers(layers: F32, cell: float, left: int, top: int, share: F32, out: F32) -> None:
    """Enlarge both layers to the pixels of the box and blend them by the weight of the lower one."""
    height, width = share.shape
    for axis in range(2):
        over = across(layers[0, axis], cell, left, top, height, width)
        under = across(layers[1, axis], cell, left, top, height, width)
        for row in range(height):
            j, part = down_to(top + row, cell)
            for i in range(np.uint64(width)):
                upper = over[j, i] + part * (over[j + 1, i] - over[j, i])
                lower = under[j, i] + part * (under[j + 1, i] - under[j, i])
                out[axis, row, i] = upper + share[row, i] * (lower - upper)


@inline
def _at(layer: F32, column: Real, row: Real, cell: float) -> tuple[Real, Real]:
    """Sample padded (2, 36, 36) positions x, y bilinearly at a pixel."""
    last = layer.shape[1] - 2
    u, v = (column + _HALF) / cell + _PAD, (row + _HALF) / cell + _PAD
    i, j = min(max(np.int32(u), 0), last), min(max(np.int32(v), 0), last)
    u, v = u - np.float32(i), v - np.float32(j)
    a, b, c, d = (_ONE - u) * (_ONE - v), u * (_ONE - v), (_ONE - u) * v, u * v
    x = a * layer[0, j, i] + b * layer[0, j, i + 1] + c * layer[0, j + 1, i] + d * layer[0, j + 1, i + 1]
    y = a * layer[1, j, i] + b * layer[1, j, i + 1] + c * layer[1, j + 1, i] + d * layer[1, j + 1, i + 1]
    return x, y


@kernel("void(f4[:,:,:,::1], f4, i8, i8, f4[::1], f4[:,::1], i8, i8, f4[:,:,::1], f4[:,:,::1])")
def _carry(
    layers: F32,
    cell: float,
    left: int,
    top: int,
    along: F32,
    share: F32,
    near_top: int,
    near_left: int,
    beyond: F32,
    out: F32,
) -> None:
    """Make the interior behind the lips move with the edges of the lips.

    Pixels beyond the edge of a lip are read as far from its image as they are from the edge, see `to_lip`.
    """
    for row in range(beyond.shape[1]):
        for column in range(beyond.shape[2]):
            up, down = beyond[0, row, column], beyond[1, row, column]
            i, j = near_left + column, near_top + row
            weight = share[j, i]
            if not ((up < 0 and weight < 1) or (down > 0 and weight > 0)):
                continue
            x, y = np.float32(left + i), np.float32(top + j)
            place_x = place_y = _ZERO
            if weight < 1:
                above_x, above_y = _at(layers[0], x - up * along[1], y + up * along[0], cell)
                place_x += (_ONE - weight) * (above_x + up * along[1])
                place_y += (_ONE - weight) * (above_y - up * along[0])
            if weight > 0:
                below_x, below_y = _at(layers[1], x - down * along[1], y + down * along[0], cell)
                place_x += weight * (below_x + down * along[1])
                place_y += weight * (below_y - down * along[0])
            out[0, j, i], out[1, j, i] = place_x, place_y
