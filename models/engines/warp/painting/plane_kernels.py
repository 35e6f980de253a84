"""Passes over the pixels of the mouth box: sharpening, colour match and blending.

Arrays cover a box of (h, w) luma or (h / 2, w / 2) chroma pixels whose upper left pixel is `left`, `top` in the region.
"""

from __future__ import annotations

import numpy as np

from models.engines.warp.painting.colour_match import LUMA_FLOOR
from models.engines.warp.painting.kernels import inlined, kernel
from models.engines.warp.painting.planes import F32, PAD, Box

_HALF = np.float32(0.5)
_DARKENED, _DARKEST = np.float32(0.85), np.float32(0.3)  # see `lip_coordinates.darken`
_FLOOR = np.float32(LUMA_FLOOR)


@inlined
def across(plane, scale, left, width):  # type: ignore[no-untyped-def]
    """Enlarges the rows of a padded plane of cells to pixels: (36, w)."""
    wide = np.empty((plane.shape[0], width), np.float32)
    for column in range(width):
        u = (left + column + np.float32(0.5)) * scale + np.float32(PAD - 0.5)
        i = int(u)
        for row in range(plane.shape[0]):
            wide[row, column] = plane[row, i] + (u - i) * (plane[row, i + 1] - plane[row, i])
    return wide


def enlarge(plane: F32, box: Box, cell: float) -> F32:
    """Enlarges a padded (36, 36) plane bilinearly to the pixels of a box, with `cell` pixels per cell."""
    rows, columns = box.pixels(cell)
    out = np.empty((rows.stop - rows.start, columns.stop - columns.start), np.float32)
    _enlarge(plane, cell, columns.start, rows.start, out)
    return out


@kernel("void(f4[:,::1], f4, i8, i8, f4[:,::1])")
def _enlarge(plane, cell, left, top, out):  # type: ignore[no-untyped-def]
    """See `enlarge`."""
    scale = 1 / cell
    wide = across(plane, scale, left, out.shape[1])
    for row in range(out.shape[0]):
        v = (top + row + np.float32(0.5)) * scale + np.float32(PAD - 0.5)
        j = int(v)
        part = np.float32(v - j)
        for column in range(out.shape[1]):
            out[row, column] = wide[j, column] + part * (wide[j + 1, column] - wide[j, column])


@kernel("void(u1[:,::1], f4, f4[:,::1])")
def sharpen_into(luma, amount, out):  # type: ignore[no-untyped-def]
    """Applies unsharp masking with a 3 x 3 blur; beyond its edge, the plane repeats it."""
    height, width = luma.shape
    sums = np.empty(width, np.float32)
    share, whole = amount / np.float32(9), 1 + amount
    for row in range(height):
        above, below = max(row - 1, 0), min(row + 1, height - 1)
        for column in range(width):
            sums[column] = np.int32(luma[above, column]) + np.int32(luma[row, column]) + np.int32(luma[below, column])
        for column in range(1, width - 1):
            soft = sums[column - 1] + sums[column] + sums[column + 1]
            out[row, column] = luma[row, column] * whole - share * soft
        out[row, 0] = luma[row, 0] * whole - share * (2 * sums[0] + sums[1])
        out[row, width - 1] = luma[row, width - 1] * whole - share * (2 * sums[width - 1] + sums[width - 2])


@kernel("void(f4[:,::1], f4[:,::1], f4, i8, i8)")
def multiply_luma(luma, gain, cell, left, top):  # type: ignore[no-untyped-def]
    """Applies the padded (36, 36) gain of a colour match to luma, in place."""
    scale = 1 / cell
    wide = across(gain, scale, left, luma.shape[1])
    for row in range(luma.shape[0]):
        v = (top + row + 0.5) * scale + PAD - 0.5
        j = int(v)
        part = np.float32(v - j)
        for column in range(luma.shape[1]):
            factor = wide[j, column] + part * (wide[j + 1, column] - wide[j, column])
            luma[row, column] = (luma[row, column] + _FLOOR) * factor - _FLOOR


@kernel("void(u1[:,::1], f4[:,::1], f4, i8, i8, f4[:,::1])")
def offset_chroma(chroma, offset, cell, left, top, out):  # type: ignore[no-untyped-def]
    """Adds the padded (36, 36) offset of a colour match to a chroma plane."""
    scale = 1 / cell
    wide = across(offset, scale, left, chroma.shape[1])
    for row in range(chroma.shape[0]):
        v = (top + row + 0.5) * scale + PAD - 0.5
        j = int(v)
        part = np.float32(v - j)
        for column in range(chroma.shape[1]):
            out[row, column] = chroma[row, column] + wide[j, column] + part * (wide[j + 1, column] - wide[j, column])


@kernel("void(f4[:,::1], f4[:,::1], f4, f4[:,::1])")
def fade_into(plane, other, weight, opening):  # type: ignore[no-untyped-def]
    """Crossfades a plane to another one in place, except in the opening."""
    for row in range(plane.shape[0]):
        for column in range(plane.shape[1]):
            share = weight - weight * opening[row, column]
            plane[row, column] += share * (other[row, column] - plane[row, column])


@kernel("void(f4[:,::1], f4[:,::1], f4, f4)")
def darken_into(luma, dark, weight, skin):  # type: ignore[no-untyped-def]
    """Applies `lip_coordinates.darken` in place, by `weight` times `dark`."""
    least, most = _DARKEST * skin, _DARKENED * weight
    for row in range(luma.shape[0]):
        for column in range(luma.shape[1]):
            light = max(luma[row, column] - least, np.float32(0))
            luma[row, column] -= most * dark[row, column] * light


@kernel("void(f4[:,::1], f4[:,::1], f4)")
def smooth_cut_into(luma, offset, hard):  # type: ignore[no-untyped-def]
    """Applies `lip_coordinates.smooth_cut` in place; `offset` is `Lips.offset`."""
    height, width = luma.shape
    before = luma[0].copy()
    for row in range(height):
        current = luma[row].copy()
        for column in range(width):
            share = _HALF - abs(offset[row, column])
            if share > 0:
                beside = luma[min(row + 1, height - 1), column] if offset[row, column] < 0 else before[column]
                luma[row, column] += hard * share * (beside - luma[row, column])
        before = current


@kernel("void(u1[:,::1], i8, i8, f4[:,::1], u1[:,::1])")
def lay_luma(below, left, top, wanted, mask):  # type: ignore[no-untyped-def]
    """Blends (h, w) luma into a plane, by the whole mask of (R / 2, R / 2), 0 to 255, enlarged bilinearly."""
    height, width = wanted.shape
    last = mask.shape[0] - 1
    weights = np.empty(width, np.float32)
    unit = np.float32(1 / (16 * 255))
    for row in range(height):
        y = (top + row) // 2
        near, far = mask[y], mask[min(max(y + 2 * ((top + row) % 2) - 1, 0), last)]
        for half in range(width // 2):
            x = left // 2 + half
            before, after = max(x - 1, 0), min(x + 1, last)
            middle = np.int32(3) * (np.int32(3) * near[x] + far[x])
            weights[2 * half] = middle + np.int32(3) * near[before] + far[before]
            weights[2 * half + 1] = middle + np.int32(3) * near[after] + far[after]
        for column in range(width):
            own = np.float32(below[top + row, left + column])
            light = min(max(np.rint(wanted[row, column]), np.float32(0)), np.float32(255))
            mixed = own + weights[column] * unit * (light - own)
            below[top + row, left + column] = np.uint8(np.int32(mixed + _HALF))


@kernel("void(u1[:,::1], i8, i8, f4[:,::1], u1[:,::1])")
def lay_chroma(below, left, top, wanted, mask):  # type: ignore[no-untyped-def]
    """Blends (h / 2, w / 2) chroma into a plane of (R / 2, R / 2), by the mask of this size, 0 to 255."""
    unit = np.float32(1 / 255)
    for row in range(wanted.shape[0]):
        for column in range(wanted.shape[1]):
            own = np.float32(below[top + row, left + column])
            light = min(max(np.rint(wanted[row, column]), np.float32(0)), np.float32(255))
            mixed = own + mask[top + row, left + column] * unit * (light - own)
            below[top + row, left + column] = np.uint8(np.int32(mixed + _HALF))
