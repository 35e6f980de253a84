"""Where the lips meet in the mouth box, and from where each pixel of the box is read: `lip_coordinates` in one pass.

Arrays cover a box of (h, w) pixels whose upper left pixel is `left`, `top` in the region.
"""

from __future__ import annotations

from typing import NamedTuple, Self

import numpy as np

from models.engines.warp.painting.kernels import inlined, kernel
from models.engines.warp.painting.lip_coordinates import CORNER, CUT, HOLLOW, LipAxes
from models.engines.warp.painting.plane_kernels import across
from models.engines.warp.painting.planes import F32, PAD, Box

_LAST_SAMPLE = 64 - 0.001  # of a lip line
_ELSEWHERE = 1e6  # pixels: not between the corners
_ALONG = 0.5  # of the samples of a lip line, per mouth half-width


class Lips(NamedTuple):
    """The lips of one face in a box of (h, w) pixels."""

    share: F32  # (h, w) `lower_layer_weight`
    opening: F32  # (h, w) `inside_alpha`
    dark: F32  # (h, w) `hollow`
    offset: F32  # (h, w) pixels across the mouth from the middle between the lips; very large beside the mouth
    beyond: F32  # (2, h, w) pixels across the mouth to the edge of the upper and of the lower lip, see `to_lip`
    along: F32  # (2,) direction of the mouth

    @classmethod
    def find(cls, axes: LipAxes, box: Box, cell: int, eye_distance: float, hard: float) -> Self:
        """Finds the lips of the one mouth in `axes`; for `hard` see `lower_layer_weight`."""
        rows, columns = box.pixels(cell)
        shape = rows.stop - rows.start, columns.stop - columns.start
        lips = cls(*np.empty((4, *shape), np.float32), np.empty((2, *shape), np.float32), axes.along[0])
        _find_lips(
            axes.centre[0], axes.along[0], float(axes.half_width[0]), axes.lips[0], columns.start, rows.start,
            eye_distance, hard, *lips[:5],
        )  # fmt: skip
        return lips

    def place(self, layers: F32, box: Box, cell: int) -> F32:
        """Returns the (2, h, w) source positions x, y of the box, blended between the layers.

        Args:
            layers: (2, 2, 36, 36) padded positions x, y of the upper and the lower layer.
            box: The box in which the lips were found.
            cell: Pixels per cell.
        """
        rows, columns = box.pixels(cell)
        place = np.empty((2, *self.share.shape), np.float32)
        _place(layers, cell, columns.start, rows.start, self.along, self.share, self.beyond, place)
        return place


@inlined
def _clip(value, low, high):  # type: ignore[no-untyped-def]
    return min(max(value, low), high)


@kernel(
    "void(f4[::1], f4[::1], f4, f4[:,::1], i8, i8, f4, f4, f4[:,::1], f4[:,::1], f4[:,::1], f4[:,::1], f4[:,:,::1])"
)
def _find_lips(centre, along, half_width, lips, left, top, eye_distance, hard, share, opening, dark, offset, beyond):  # type: ignore[no-untyped-def]
    """Fills the arrays of `Lips`; the formulas are those of `lip_coordinates`."""
    height, width = share.shape
    soft = 1 - hard
    feather, jaws = max(0.045 * half_width, 1), HOLLOW * eye_distance
    edge = max(jaws / 2, 1)
    highest, lowest = lips[0].min() - feather - 1, lips[1].max() + feather + 1
    for row in range(height):
        dy = top + row - centre[1]
        for column in range(width):
            dx = left + column - centre[0]
            x, y = (dx * along[0] + dy * along[1]) / half_width, dy * along[0] - dx * along[1]
            opening[row, column] = dark[row, column] = beyond[0, row, column] = beyond[1, row, column] = 0
            offset[row, column] = _ELSEWHERE
            if abs(x) >= 1 or y < highest or y > lowest:
                side = 0.02 + 0.78 * soft + 0.9 * max(abs(x) - 1, 0) * half_width
                share[row, column] = _clip(y / side + 0.5, 0, 1)
                continue
            place = _clip((x + 1) * 32, 0, _LAST_SAMPLE)
            k = int(place)
            part = place - k
            upper = lips[0, k] + part * (lips[0, k + 1] - lips[0, k])
            lower = lips[1, k] + part * (lips[1, k + 1] - lips[1, k])
            start = lips[2, k] + part * (lips[2, k + 1] - lips[2, k])
            stop = lips[3, k] + part * (lips[3, k + 1] - lips[3, k])
            gap, jaw_gap = lower - upper, stop - start
            opened = _clip(gap / (0.06 * half_width) - 1, 0, 1)
            parted, middle = soft * opened, (upper + lower) / 2
            cut = gap * (soft - parted) + parted * max(jaw_gap, CUT * half_width)
            cut = max(cut, 0.02 + 0.78 * soft)
            line = middle + parted * ((start + stop) / 2 - middle)
            share[row, column] = _clip((y - line) / cut + 0.5, 0, 1)
            offset[row, column] = y - middle
            beyond[0, row, column], beyond[1, row, column] = min(upper - y, 0), max(lower - y, 0)
            below = _clip((y - upper) / feather + 0.25, 0, 1)
            above = _clip((lower - y) / feather + 0.25, 0, 1)
            beside = _clip((1 - abs(x)) / CORNER, 0, 1)
            opening[row, column] = below * above * beside * _clip(gap / feather, 0, 1)
            below = _clip((y - start) / edge + 0.5, 0, 1)
            above = _clip((stop - y) / edge + 0.5, 0, 1)
            dark[row, column] = opened * _clip(jaw_gap / jaws, 0, 1) * below * above


@inlined
def _at(plane, column, row, scale):  # type: ignore[no-untyped-def]
    """Samples a padded plane of cells bilinearly at a pixel; `scale` is cells per pixel."""
    last = plane.shape[0] - 2
    u = (column + np.float32(0.5)) * scale + np.float32(PAD - 0.5)
    v = (row + np.float32(0.5)) * scale + np.float32(PAD - 0.5)
    i, j = _clip(int(u), 0, last), _clip(int(v), 0, last)
    u, v = u - i, v - j
    over = plane[j, i] + u * (plane[j, i + 1] - plane[j, i])
    under = plane[j + 1, i] + u * (plane[j + 1, i + 1] - plane[j + 1, i])
    return over + v * (under - over)


@kernel("void(f4[:,:,:,::1], f4, i8, i8, f4[::1], f4[:,::1], f4[:,:,::1], f4[:,:,::1])")
def _place(layers, cell, left, top, along, share, beyond, out):  # type: ignore[no-untyped-def]
    """See `Lips.place`. Pixels beyond the edge of a lip are read as far from its image as the edge itself."""
    height, width = share.shape
    scale = 1 / cell
    for axis in range(2):
        upper, lower = layers[0, axis], layers[1, axis]
        turn = along[0] if axis else -along[1]
        over, under = across(upper, scale, left, width), across(lower, scale, left, width)
        for row in range(height):
            v = (top + row + np.float32(0.5)) * scale + np.float32(PAD - 0.5)
            j = int(v)
            part = np.float32(v - j)
            for column in range(width):
                above = over[j, column] + part * (over[j + 1, column] - over[j, column])
                below = under[j, column] + part * (under[j + 1, column] - under[j, column])
                out[axis, row, column] = above + share[row, column] * (below - above)
            for column in range(width):
                up, down = beyond[0, row, column], beyond[1, row, column]
                weight = share[row, column]
                if (up < 0 and weight < 1) or (down > 0 and weight > 0):
                    x, y = np.float32(left + column), np.float32(top + row)
                    above = _at(upper, x - up * along[1], y + up * along[0], scale) - up * turn
                    below = _at(lower, x - down * along[1], y + down * along[0], scale) - down * turn
                    out[axis, row, column] = above + weight * (below - above)
