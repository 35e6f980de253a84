"""Samples 8-bit planes bicubically, only where pixels are needed.

A warp moves neighbouring pixels by nearly the same distance. Pixels of a row that read adjacent pixels of the plane
form a run, which is computed in vectors: each load reads the same neighbour of sixteen pixels.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from models.engines.warp.painting.plane_kernels import Real, Whole, inline, kernel
from models.engines.warp.painting.planes import F32, U8

_LANES = 16  # pixels per vector
_CROP = "Array(u1, 2, 'C', readonly=True)"  # crops in an object store are read-only
_BELOW = np.int32(64)  # added to positions so that conversion to integers rounds down; beyond it all is the edge
_FAR = np.float32(1 << 14)  # pixels; positions are clipped to it on both sides, so that 32 bits hold a pair of them
# A position this close to the next pixel belongs to it: where nothing moves, rounding errors would end runs.
_NEARLY = np.float32(_BELOW + 1 / 2048)
_A = np.float32(-0.75)  # Keys, "Cubic convolution interpolation for digital image processing", 1981; OpenCV's value
_ZERO, _ONE, _HALF, _WHITE = np.float32(0), np.float32(1), np.float32(0.5), np.float32(255)
_U1, _U2, _U3 = np.uint64(1), np.uint64(2), np.uint64(3)


def sample_cubic(plane: U8, place: F32 | Sequence[F32], needed: U8, out: U8, top: int = 0, left: int = 0) -> None:
    """Sample a plane bicubically; beyond its edge it repeats its edge.

    Args:
        plane: (H, W) uint8, C-contiguous.
        place: x and y of the (h, w) pixels of a box, float32.
        needed: (m, n) uint8 cells of the box; those that are not 0 are sampled, and the pixels next to them. h and w
            are multiples of m and n.
        out: Receives these pixels; the others are kept.
        top: Row of `out` for the first row of the box.
        left: Its column there.
    """
    x, y, cells = (np.ascontiguousarray(each) for each in (*place, needed))
    _sample_cubic(plane, x, y, cells, out, top, left)


@inline
def _weights(part: Real) -> tuple[Real, Real, Real, Real]:
    """Return the weights of four neighbours of a position `part` pixels behind the second one."""
    rest = _ONE - part
    first, last = _A * part * rest * rest, _A * rest * part * part
    second = ((_A + np.float32(2)) * part - (_A + np.float32(3))) * part * part + _ONE
    return first, second, _ONE - first - second - last, last


@inline
def _read_run(
    pixels: U8, start: Whole, width: Whole, x: F32, y: F32, at: Whole, num: Whole, x0: Real, y0: Real, out: U8
) -> None:
    """Sample `num` pixels of a row from `at` on.

    The upper left neighbour of the first is `pixels[start]`, and its second neighbours are at `x0`, `y0`.
    """
    row0, row1 = np.uint64(start), np.uint64(start + width)
    row2, row3 = np.uint64(start + 2 * width), np.uint64(start + 3 * width)
    first = np.uint64(at)
    for i in range(np.uint64(num)):
        a, b, c, d = _weights(x[first + i] - (x0 + np.float32(i)))
        line0 = _of_four(pixels, row0 + i, a, b, c, d)
        line1 = _of_four(pixels, row1 + i, a, b, c, d)
        line2 = _of_four(pixels, row2 + i, a, b, c, d)
        line3 = _of_four(pixels, row3 + i, a, b, c, d)
        a, b, c, d = _weights(y[first + i] - y0)
        out[first + i] = _to_byte(a * line0 + b * line1 + c * line2 + d * line3)


@inline
def _of_four(pixels: U8, at: Whole, a: Real, b: Real, c: Real, d: Real) -> Real:
    left, right = np.float32(pixels[at]), np.float32(pixels[at + _U3])
    return a * left + b * np.float32(pixels[at + _U1]) + c * np.float32(pixels[at + _U2]) + d * right


@inline
def _to_byte(value: Real) -> Whole:
    return np.uint8(np.int32(min(max(value, _ZERO), _WHITE) + _HALF))


@inline
def _read_pixel(plane: U8, x: Real, y: Real) -> Whole:
    """Sample one pixel, of which neighbours may be beyond the edge."""
    column, row = np.int32(x + _NEARLY) - _BELOW, np.int32(y + _NEARLY) - _BELOW
    across, down = _weights(x - np.float32(column)), _weights(y - np.float32(row))
    light = _ZERO
    for j in range(4):
        line = plane[min(max(row + j - 1, 0), plane.shape[0] - 1)]
        for i in range(4):
            light += down[j] * across[i] * np.float32(line[min(max(column + i - 1, 0), plane.shape[1] - 1)])
    return _to_byte(light)


@inline
def _near(place: Real) -> Real:
    """Clip a position, so that it can be converted to an integer; a plane is smaller."""
    return min(max(place, -_FAR), _FAR)


@inline
def _find_runs(x: F32, y: F32, first: int, stop: int, moved: NDArray[np.int32], starts: NDArray[np.int32]) -> int:
    """Find the runs of the pixels [first, stop) of a row: where each starts, and where the last one stops."""
    for i in range(np.uint64(first), np.uint64(stop)):
        moved[i] = ((np.int32(x[i] + _NEARLY) - np.int32(i)) << 16) + np.int32(y[i] + _NEARLY)
    num = 1
    starts[0] = first
    for i in range(np.uint64(first + 1), np.uint64(stop)):
        starts[np.uint64(num)] = i
        num += moved[i] != moved[i - _U1]
    starts[num] = stop
    return num


@inline
def _read_row(plane: U8, pixels: U8, x: F32, y: F32, starts: NDArray[np.int32], num_runs: int, out: U8) -> None:
    """Sample a row into `out`, which is one vector longer than the row, like x and y."""
    height, width = plane.shape
    for run in range(num_runs):
        first, stop = starts[run], starts[run + 1]
        column, row = np.int32(x[first] + _NEARLY) - _BELOW, np.int32(y[first] + _NEARLY) - _BELOW
        # Only pixels whose neighbours are all in the plane
        start = min(max(first, first + 1 - column), stop)
        end = max(min(stop, first + width - 2 - column), start)
        if row < 1 or row > height - 3:
            end = start
        num_outside = stop - first - (end - start)
        for k in range(num_outside):
            i = first + k if first + k < start else stop - num_outside + k
            out[i] = _read_pixel(plane, x[i], y[i])
        if end > start:
            column += start - first
            num = (end - start + _LANES - 1) // _LANES * _LANES
            if column + num + 2 > width:
                num = end - start
            upper_left = (row - 1) * width + column - 1
            _read_run(pixels, upper_left, width, x, y, start, num, np.float32(column), np.float32(row), out)


@kernel(f"void({_CROP}, f4[:,::1], f4[:,::1], u1[:,::1], u1[:,::1], i8, i8)")
def _sample_cubic(plane: U8, x: F32, y: F32, needed: U8, out: U8, top: int, left: int) -> None:
    """See `sample_cubic`."""
    height, width = x.shape
    cell_height, cell_width = height // needed.shape[0], width // needed.shape[1]
    line_x, line_y = np.zeros(width + _LANES, np.float32), np.zeros(width + _LANES, np.float32)
    line, pixels = np.zeros(width + _LANES, np.uint8), plane.reshape(-1)
    moved, starts = np.empty(width, np.int32), np.empty(width + 1, np.int32)
    for row in range(height):
        above, below = max(row - 1, 0) // cell_height, min(row + 1, height - 1) // cell_height
        for i in range(np.uint64(width)):
            line_x[i], line_y[i] = _near(x[row, i]), _near(y[row, i])
        cell = 0
        while cell < needed.shape[1]:
            end = cell
            while end < needed.shape[1] and (needed[above, end] or needed[below, end]):
                end += 1
            if end > cell:
                first, stop = max(cell * cell_width - 1, 0), min(end * cell_width + 1, width)
                num_runs = _find_runs(line_x, line_y, first, stop, moved, starts)
                _read_row(plane, pixels, line_x, line_y, starts, num_runs, line)
                for i in range(np.uint64(first), np.uint64(stop)):
                    out[np.uint64(top + row), np.uint64(left) + i] = line[i]
            cell = end + 1


def sample_linear(planes: U8, place: F32 | Sequence[F32], needed: U8, out: U8, top: int = 0, left: int = 0) -> None:
    """Sample (2, H, W) uint8 U and V bilinearly, at half the position of the top left luma pixel of each chroma pixel.

    The mean of its four luma pixels would lie between the layers along the lip line. Arguments are those of
    `sample_cubic`: `place` and `needed` of luma; `out`, `top` and `left` of chroma.
    """
    x, y, cells = (np.ascontiguousarray(each) for each in (*place, needed))
    _sample_linear(planes, x, y, cells, out, top, left)


@inline
def _between(left: Whole, right: Whole, part: Real) -> Real:
    return np.float32(left) + part * (np.float32(right) - np.float32(left))


@inline
def _mix_run(
    pixels: U8,
    start: Whole,
    width: Whole,
    x: F32,
    y: F32,
    at: Whole,
    num: Whole,
    x0: Real,
    y0: Real,
    out: U8,
    shift: Whole,
) -> None:
    """Sample `num` pixels of a row from `at` on, into `out` from `at + shift` on.

    `pixels[start]`, at x0, y0, is the first neighbour of the first.
    """
    row0, row1 = np.uint64(start), np.uint64(start + width)
    first, target = np.uint64(at), np.uint64(at + shift)
    for i in range(np.uint64(num)):
        part = x[first + i] - (x0 + np.float32(i))
        above = _between(pixels[row0 + i], pixels[row0 + i + _U1], part)
        below = _between(pixels[row1 + i], pixels[row1 + i + _U1], part)
        out[target + i] = _to_byte(above + (y[first + i] - y0) * (below - above))


@inline
def _mix_pixel(pixels: U8, plane: int, height: int, width: int, x: Real, y: Real) -> Whole:
    """Sample one pixel of the plane that starts at pixel `plane`; neighbours may be beyond its edge."""
    x, y = min(max(x, _ZERO), np.float32(width - 1)), min(max(y, _ZERO), np.float32(height - 1))
    i, j = int(x), int(y)
    i, j = min(max(i, 0), width - 1), min(max(j, 0), height - 1)  # NaN becomes any integer
    right, above, below = min(i + 1, width - 1), plane + j * width, plane + min(j + 1, height - 1) * width
    u, v = x - np.float32(i), y - np.float32(j)
    over = _between(pixels[above + i], pixels[above + right], u)
    under = _between(pixels[below + i], pixels[below + right], u)
    return _to_byte(over + v * (under - over))


@inline
def _mix_row(pixels: U8, planes: U8, x: F32, y: F32, starts: NDArray[np.int32], num_runs: int, out: U8) -> None:
    """Sample a row of both planes into `out`, one behind the other, each one vector longer than the row."""
    num_planes, height, width = planes.shape
    length = len(x)
    for run in range(num_runs):
        first, stop = starts[run], starts[run + 1]
        column, row = np.int32(x[first] + _NEARLY) - _BELOW, np.int32(y[first] + _NEARLY) - _BELOW
        # Only pixels whose neighbours are all in the plane
        start = min(max(first, first - column), stop)
        end = max(min(stop, first + width - 1 - column), start)
        if row < 0 or row > height - 2:
            end = start
        column += start - first
        num = (end - start + _LANES - 1) // _LANES * _LANES
        if column + num + 1 > width:
            num = end - start
        for channel in range(num_planes):
            plane, at = channel * height * width, channel * length
            num_outside = stop - first - (end - start)
            for k in range(num_outside):
                i = first + k if first + k < start else stop - num_outside + k
                out[at + i] = _mix_pixel(pixels, plane, height, width, x[i], y[i])
            upper_left = plane + row * width + column
            _mix_run(pixels, upper_left, width, x, y, start, num, np.float32(column), np.float32(row), out, at)


@kernel("void(Array(u1, 3, 'C', readonly=True), f4[:,::1], f4[:,::1], u1[:,::1], u1[:,:,::1], i8, i8)")
def _sample_linear(planes: U8, x: F32, y: F32, needed: U8, out: U8, top: int, left: int) -> None:
    """See `sample_linear`."""
    height, width = x.shape[0] // 2, x.shape[1] // 2
    length = width + _LANES
    cell_height, cell_width = height // needed.shape[0], width // needed.shape[1]
    line_x, line_y = np.zeros(length, np.float32), np.zeros(length, np.float32)
    lines, pixels = np.zeros(2 * length, np.uint8), planes.reshape(-1)
    moved, starts = np.empty(width, np.int32), np.empty(width + 1, np.int32)
    for row in range(height):
        for i in range(np.uint64(width)):
            line_x[i], line_y[i] = _near(_HALF * x[2 * row, _U2 * i]), _near(_HALF * y[2 * row, _U2 * i])
        cell, cells = 0, needed[row // cell_height]
        while cell < len(cells):
            end = cell
            while end < len(cells) and cells[end]:
                end += 1
            if end > cell:
                first, stop = cell * cell_width, end * cell_width
                num_runs = _find_runs(line_x, line_y, first, stop, moved, starts)
                _mix_row(pixels, planes, line_x, line_y, starts, num_runs, lines)
                for i in range(np.uint64(first), np.uint64(stop)):
                    out[0, np.uint64(top + row), np.uint64(left) + i] = lines[i]
                    out[1, np.uint64(top + row), np.uint64(left) + i] = lines[np.uint64(length) + i]
            cell = end + 1
