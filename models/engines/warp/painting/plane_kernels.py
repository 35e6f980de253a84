"""Loops over the pixels of planes, compiled with Numba.

Arrays cover a box of (h, w) luma or (h / 2, w / 2) chroma pixels whose upper left pixel is `left`, `top` in the region.

A kernel is compiled for the types in its signature when its module is imported, or loaded from the cache on disk, which
the first start of a checkout fills. Modules with kernels are therefore imported by those processes only that run them.
"""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256
from types import FunctionType
from typing import Any, Final, TypeAlias, TypeVar, cast

import numba
import numpy as np

from models.engines.warp.painting.masks import LUMA_FLOOR
from models.engines.warp.painting.planes import F32, PAD, U8, Box

F = TypeVar("F", bound=Callable[..., Any])
# Numbers in kernels. Loops are computed in vectors if constants are float32, because Numba otherwise uses float64, and
# indices unsigned, because negative ones count from the end.
Real: TypeAlias = float | np.floating
Whole: TypeAlias = int | np.integer
_OPTIONS: Final[dict[str, Any]] = {"nogil": True, "fastmath": True, "error_model": "numpy"}


def kernel(*signatures: str) -> Callable[[F], F]:
    """Compile a function for signatures of Numba types; it runs without the GIL."""

    def compile_for_signatures(function: F) -> F:
        return _compile(function, list(signatures))

    return compile_for_signatures


def inline(function: F) -> F:
    """Compile a function that kernels call, for the types that they pass."""
    return _compile(function)


def _compile(function: F, signatures: list[str] | None = None) -> F:
    python = cast(FunctionType, function)
    python.__qualname__ = f"{python.__qualname__}_{_fingerprint(python)}"  # names the file in the cache

    def compile_function(cache: bool) -> F:
        decorator = numba.njit(signatures, cache=cache, **_OPTIONS)
        return cast(F, decorator(function))

    try:
        return compile_function(cache=True)
    except RuntimeError:  # Numba can write neither to the folder of the module nor to that of the user
        return compile_function(cache=False)


def _fingerprint(function: FunctionType) -> str:
    """Return a hash of the code of a function and of the numbers and compiled functions that it uses.

    Numba compiles these into the function, but drops a cached function only when the function's own file changes.
    """
    code = function.__code__
    parts = [repr(_OPTIONS), code.co_code.hex(), repr(code.co_consts)]
    for name in code.co_names:
        used = function.__globals__.get(name)
        if isinstance(used, int | float | np.number):
            parts.append(f"{name} = {used!r}")
        elif isinstance(used, numba.core.registry.CPUDispatcher):
            parts.append(used.py_func.__qualname__)  # with its own fingerprint
    return sha256("\n".join(parts).encode()).hexdigest()[:12]


_HALF, _THREE = np.float32(0.5), np.float32(3)
_U1, _U2 = np.uint64(1), np.uint64(2)
_DARKENED, _DARKEST = np.float32(0.85), np.float32(0.3)  # see `lip_coordinates.darken`
_FLOOR = np.float32(LUMA_FLOOR)
_PAD_CELLS = np.float32(PAD)
_PAD = np.float32(PAD - 0.5)  # from the edge of the region to the centre of the first padded cell, in cells


@inline
def across(plane: F32, cell: float, left: int, top: int, height: int, width: int) -> F32:
    """Enlarge the rows of a padded plane of cells to pixels: (36, w), of which a box of (h, w) pixels needs some."""
    wide = np.empty((plane.shape[0], width), np.float32)
    cells, parts = np.empty(width, np.int32), np.empty(width, np.float32)
    for i in range(np.uint64(width)):
        u = (np.float32(left) + np.float32(i) + _HALF) / np.float32(cell) + _PAD
        cells[i] = np.int32(u)
        parts[i] = u - np.float32(cells[i])
    for row in range(down_to(top, cell)[0], down_to(top + height - 1, cell)[0] + 2):
        for i in range(np.uint64(width)):
            k = np.uint64(cells[i])
            wide[row, i] = plane[row, k] + parts[i] * (plane[row, k + _U1] - plane[row, k])
    return wide


@inline
def down_to(row: int, cell: float) -> tuple[Whole, Real]:
    """Return the row of padded cells above a row of pixels, and how far it is below it, 0 to 1."""
    v = (np.float32(row) + _HALF) / np.float32(cell) + _PAD
    return np.int32(v), v - np.float32(np.int32(v))


def padded_positions(shifts: F32, cell: int) -> F32:
    """Convert (n, 2c, 32, 32) offsets x, y, ... of cell centres to padded (n, 2c, 36, 36) positions in pixels."""
    padded = np.empty((*shifts.shape[:2], shifts.shape[2] + 2 * PAD, shifts.shape[3] + 2 * PAD), np.float32)
    _pad_positions(shifts, cell, padded)
    return padded


@kernel("void(f4[:,:,:,::1], f4, f4[:,:,:,::1])")
def _pad_positions(shifts: F32, cell: float, out: F32) -> None:
    """See `padded_positions`."""
    last = shifts.shape[3] - 1
    for k in range(out.shape[0]):
        for channel in range(out.shape[1]):
            for row in range(out.shape[2]):
                j = min(max(row - PAD, 0), last)
                for column in range(out.shape[3]):
                    i = min(max(column - PAD, 0), last)
                    place = np.float32(row if channel % 2 else column) + (_HALF - _PAD_CELLS)
                    out[k, channel, row, column] = shifts[k, channel, j, i] + place * cell - _HALF


def enlarge(plane: F32, box: Box, cell: float) -> F32:
    """Enlarge a padded (36, 36) plane bilinearly to the pixels of a box, with `cell` pixels per cell."""
    rows, columns = box.pixels(cell)
    out = np.empty((rows.stop - rows.start, columns.stop - columns.start), np.float32)
    _enlarge(plane, cell, columns.start, rows.start, out)
    return out


@kernel("void(f4[:,::1], f4, i8, i8, f4[:,::1])")
def _enlarge(plane: F32, cell: float, left: int, top: int, out: F32) -> None:
    """See `enlarge`."""
    height, width = out.shape
    wide = across(plane, cell, left, top, height, width)
    for row in range(height):
        j, part = down_to(top + row, cell)
        for i in range(np.uint64(width)):
            out[row, i] = wide[j, i] + part * (wide[j + 1, i] - wide[j, i])


@kernel("void(u1[:,::1], f4, f4[:,::1])")
def sharpen_into(luma: U8, amount: float, out: F32) -> None:
    """Apply unsharp masking with a 3 x 3 blur; beyond its edge, the plane repeats it."""
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
def multiply_luma(luma: F32, gain: F32, cell: float, left: int, top: int) -> None:
    """Apply the padded (36, 36) gain of a colour match to luma, in place."""
    height, width = luma.shape
    wide = across(gain, cell, left, top, height, width)
    for row in range(height):
        j, part = down_to(top + row, cell)
        for i in range(np.uint64(width)):
            factor = wide[j, i] + part * (wide[j + 1, i] - wide[j, i])
            luma[row, i] = (luma[row, i] + _FLOOR) * factor - _FLOOR


@kernel("void(u1[:,::1], f4[:,::1], f4, i8, i8, f4[:,::1])")
def offset_chroma(chroma: U8, offset: F32, cell: float, left: int, top: int, out: F32) -> None:
    """Add the padded (36, 36) offset of a colour match to a chroma plane."""
    height, width = chroma.shape
    wide = across(offset, cell, left, top, height, width)
    for row in range(height):
        j, part = down_to(top + row, cell)
        for i in range(np.uint64(width)):
            out[row, i] = chroma[row, i] + wide[j, i] + part * (wide[j + 1, i] - wide[j, i])


@kernel("void(f4[:,::1], f4[:,::1], f4, f4[:,::1], i8, i8)")
def fade_into(plane: F32, other: F32, weight: float, opening: F32, top: int, left: int) -> None:
    """Crossfade a plane to another one in place, except in the opening, which starts at row `top`, column `left`."""
    weights = np.empty(plane.shape[1], np.float32)
    for row in range(plane.shape[0]):
        weights[:] = weight
        if 0 <= row - top < opening.shape[0]:
            for column in range(opening.shape[1]):
                weights[left + column] -= weight * opening[row - top, column]
        for column in range(plane.shape[1]):
            plane[row, column] += weights[column] * (other[row, column] - plane[row, column])


@kernel("void(f4[:,::1], f4[:,::1], f4, f4, i8, i8)")
def darken_into(luma: F32, dark: F32, weight: float, skin: float, top: int, left: int) -> None:
    """Apply `lip_coordinates.darken` in place, by `weight` times `dark`, which starts at row `top`, column `left`."""
    least, most = _DARKEST * skin, _DARKENED * weight
    for row in range(dark.shape[0]):
        for column in range(dark.shape[1]):
            light = luma[top + row, left + column]
            luma[top + row, left + column] = light - most * dark[row, column] * max(light - least, np.float32(0))


@kernel("void(f4[:,::1], f4[:,::1], f4, i8, i8)")
def smooth_cut_into(luma: F32, offset: F32, hard: float, top: int, left: int) -> None:
    """Apply `lip_coordinates.smooth_cut` in place; `offset` is `Lips.offset`, from row `top` and column `left` on."""
    before = luma[max(top - 1, 0)].copy()
    for row in range(offset.shape[0]):
        current, after = luma[top + row].copy(), luma[min(top + row + 1, luma.shape[0] - 1)]
        for column in range(offset.shape[1]):
            share, i = _HALF - abs(offset[row, column]), left + column
            if share > 0:
                beside = after[i] if offset[row, column] < 0 else before[i]
                luma[top + row, i] += hard * share * (beside - current[i])
        before = current


@inline
def _lay_row(below: U8, row: Whole, left: Whole, wanted: F32, line: int, weights: F32) -> None:
    """Blend line `line` of `wanted` into row `row` of a plane, from column `left` on, by weights from 0 to 1."""
    for i in range(np.uint64(len(weights))):
        own = np.float32(below[row, left + i])
        light = np.float32(np.int32(min(max(wanted[line, i], np.float32(0)), np.float32(255)) + _HALF))
        below[row, left + i] = np.uint8(np.int32(own + weights[i] * (light - own) + _HALF))


@kernel("void(u1[:,::1], i8, i8, f4[:,::1], u1[:,::1])")
def lay_luma(below: U8, left: int, top: int, wanted: F32, mask: U8) -> None:
    """Blend (h, w) luma into a plane, by the whole mask of (R / 2, R / 2), 0 to 255, enlarged bilinearly."""
    height, width = wanted.shape
    half, last, start = width // 2, mask.shape[0] - 1, left // 2
    down, weights = np.empty(half + 2, np.float32), np.empty(width, np.float32)
    unit = np.float32(1 / (16 * 255))
    for row in range(height):
        near = np.uint64((top + row) // 2)
        far = np.uint64(min(max((top + row) // 2 + 2 * ((top + row) % 2) - 1, 0), last))
        for i in range(np.uint64(half + 2)):
            x = np.uint64(min(max(start - 1 + np.int64(i), 0), last))
            down[i] = _THREE * mask[near, x] + mask[far, x]
        for i in range(np.uint64(half)):
            weights[_U2 * i] = unit * (_THREE * down[i + _U1] + down[i])
            weights[_U2 * i + _U1] = unit * (_THREE * down[i + _U1] + down[i + _U2])
        _lay_row(below, np.uint64(top + row), np.uint64(left), wanted, row, weights)


@kernel("void(u1[:,::1], i8, i8, f4[:,::1], u1[:,::1])")
def lay_chroma(below: U8, left: int, top: int, wanted: F32, mask: U8) -> None:
    """Blend (h / 2, w / 2) chroma into a plane of (R / 2, R / 2), by the mask of this size, 0 to 255."""
    unit, weights = np.float32(1 / 255), np.empty(wanted.shape[1], np.float32)
    for row in range(wanted.shape[0]):
        for i in range(np.uint64(len(weights))):
            weights[i] = unit * mask[np.uint64(top + row), np.uint64(left) + i]
        _lay_row(below, np.uint64(top + row), np.uint64(left), wanted, row, weights)
