"""Finds the true inner edges of open lips in the picture.

Landmarks place the inner lips of an open mouth now and then inside the lips' flesh or across the teeth, and its
corners short of the mouth's (by .03 mouth widths). For a talking source that is the same in every frame and cancels; a
source that always shows its teeth is opened and closed along these lines, and what lies between line and lip would stay
behind in the lips of a shut mouth.

Every pixel around the lips says by its colour whether it is lip or inside of the mouth; of all pairs of smooth lines
from corner to corner the one is taken that parts them best.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from media.planes import Planes
from models.geometry.face_points import (
    INNER_LOWER,
    INNER_UPPER,
    MIDDLE_LOWER,
    MIDDLE_UPPER,
    OUTER_LOWER,
    OUTER_UPPER,
)
from models.mouth.mouth_axes import F64, MouthAxes, line_heights, sample

# Lengths are in mouth widths, from outer corner to outer corner.
_STEP = 1 / 64
_HALF_WIDTH = 0.53  # of what is looked at
_MARGIN = 0.02  # above and below the outer lips: the dark of a corner may reach beyond them
_MIN_WIDTH = 0.5  # of the mesh's inner lips: less is the shadow of a corner
_KEPT_CORNER = 0.01  # that the inner corner stays within the outer one
_LIP_HALF = 0.3  # to either side of the middle: lips here show their own colour
# Of the way from the outer to the inner edge of a lip: the skin beside it is as pale as teeth are.
_SKIN = 0.25
# Light and redness as shares of the lip's at which a pixel is as likely lip as inside, and the width of the change.
_DARK, _DARK_RANGE = 0.66, 0.12
_PALE, _PALE_RANGE = 0.82, 0.14
_RED_FLOOR = 4.0  # of redness, in levels: in a picture without colours it says nothing
# Evidence runs from -1, lip, to 1. A tongue is lip by its colour: deep between the mesh's lines it counts little.
_DEEP = 0.25  # of the gap
_INSIDE, _INSIDE_FLOOR = 0.55, -0.5
_OUTSIDE = 0.8  # taken away beyond them, for each height of the lip
_SLOPE_COST = 0.45  # a step up or down between neighbouring columns ...
_MAX_SLOPE = 4  # ... and how many are looked at
_SMOOTH = np.array([0.06, 0.24, 0.4, 0.24, 0.06])
_TAPER = 3.0  # columns in which the lines run together at a corner


class _Lines(NamedTuple):
    """Heights of the mesh's lines over the columns, (C,) each."""

    outer_upper: F64
    middle_upper: F64
    inner_upper: F64
    inner_lower: F64
    middle_lower: F64
    outer_lower: F64


class LipEdges(NamedTuple):
    """What a picture shows of the inner lips.

    Attributes:
        shifts: (2, 11, 2) float32, how far the true edges lie from the mesh's `INNER_UPPER` and `INNER_LOWER`, along
            and across the mouth in mouth widths; 0 for a mouth that is shut.
        evidence: Mean of what speaks for the inside of a mouth between them: .05 is the mesh's word alone.
    """

    shifts: NDArray[np.float32]
    evidence: float


def inner_lip_edges(planes: Planes, points: NDArray[np.floating]) -> LipEdges:
    """Compares the mesh's inner lips with the picture.

    Args:
        planes: The frame.
        points: (468, 2 or 3) its landmarks in pixels.
    """
    flat = np.asarray(points[None, :, :2], np.float64)
    axes = MouthAxes.of(flat)
    mesh = [axes.to_mouth(flat[:, list(ids)])[0] for ids in (INNER_UPPER, INNER_LOWER)]
    columns = np.arange(-_HALF_WIDTH, _HALF_WIDTH + 1e-6, _STEP)
    lines = _mesh_lines(axes, flat, columns)
    rows = np.arange(lines.outer_upper.min() - _MARGIN, lines.outer_lower.max() + _MARGIN, _STEP)
    grid = np.stack(np.meshgrid(columns, rows), -1)
    evidence = _evidence(sample(planes, axes.to_image(grid.reshape(1, -1, 2)).reshape(grid.shape)), grid, lines)
    upper, lower = _best_lines(evidence)
    is_open = np.flatnonzero(lower > upper)
    left, right = mesh[0][0, 0], mesh[0][-1, 0]
    if not len(is_open) or np.ptp(is_open) * _STEP < _MIN_WIDTH * (right - left):
        return LipEdges(np.zeros((2, len(INNER_UPPER), 2), np.float32), 0.0)
    found = slice(is_open[0], is_open[-1] + 1)
    edges = rows[0] + (_run_together(upper[found], lower[found]) - 0.5) * _STEP  # (2, C)
    limit = 0.5 - _KEPT_CORNER
    first, last = columns[found][[0, -1]].clip(-limit, limit)
    shifts = np.empty((2, len(INNER_UPPER), 2), np.float32)
    for k, lip in enumerate(mesh):
        along = first + (lip[:, 0] - left) / (right - left) * (last - first)
        shifts[k] = np.stack([along, np.interp(along, columns[found], edges[k])], 1) - lip
    row = np.arange(len(evidence))[:, None]
    return LipEdges(shifts, float(evidence[(row >= upper) & (row < lower)].mean()))


def move_inner_lips(points: NDArray[np.floating], shifts: NDArray[np.floating]) -> NDArray[np.float32]:
    """Returns (N, 468, 3) landmarks whose inner lips are moved by the shifts of `inner_lip_edges` or `seam_shifts`.

    The lips' middle lines go along by their share of the way from the outer edge to the inner one.
    """
    moved = np.array(points, np.float32)
    flat = np.asarray(points[..., :2], np.float64)
    axes = MouthAxes.of(flat)
    for shift, inner, middle, outer in zip(
        shifts, (INNER_UPPER, INNER_LOWER), (MIDDLE_UPPER, MIDDLE_LOWER), (OUTER_UPPER, OUTER_LOWER), strict=True
    ):
        step = axes.to_image(np.broadcast_to(shift, (len(flat), *shift.shape))) - axes.origin[:, None]
        rim, core, edge = (flat[:, list(ids)] for ids in (outer, middle, inner))
        height = np.linalg.norm(edge - rim, axis=-1, keepdims=True).clip(1e-6)
        share = (np.linalg.norm(core - rim, axis=-1, keepdims=True) / height).clip(0, 1)
        moved[:, list(inner), :2] = edge + step
        moved[:, list(middle), :2] = core + share * step
    return moved


def _mesh_lines(axes: MouthAxes, points: F64, columns: F64) -> _Lines:
    ids = (OUTER_UPPER, MIDDLE_UPPER, INNER_UPPER, INNER_LOWER, MIDDLE_LOWER, OUTER_LOWER)
    return _Lines(*(line_heights(axes, points, line, columns)[0] for line in ids))


def _evidence(picture: F64, grid: F64, lines: _Lines) -> F64:
    """(R, C) above 0 where a pixel is rather inside of the mouth than lip."""
    y = grid[..., 1]
    luma, red = picture[..., 0], picture[..., 2] - 128 - 0.5 * (picture[..., 1] - 128)
    upper_height = (lines.inner_upper - lines.outer_upper).clip(_STEP)
    lower_height = (lines.outer_lower - lines.inner_lower).clip(_STEP)
    skin_above = lines.outer_upper + _SKIN * upper_height
    skin_below = lines.outer_lower - _SKIN * lower_height
    in_middle = np.abs(grid[..., 0]) < _LIP_HALF
    is_upper = in_middle & (y > skin_above) & (y < lines.middle_upper)
    is_lower = in_middle & (y < skin_below) & (y > lines.middle_lower)
    is_above = y < (lines.inner_upper + lines.inner_lower) / 2
    light = luma / np.where(is_above, _median(luma, is_upper), _median(luma, is_lower)).clip(1)
    lip_red = np.where(is_above, _median(red, is_upper), _median(red, is_lower)).clip(0)
    redness = (red + _RED_FLOOR) / (lip_red + _RED_FLOOR)
    dark = ((_DARK - light) / _DARK_RANGE).clip(-1, 1)
    pale = ((_PALE - redness) / _PALE_RANGE).clip(-1, 1) * lip_red / (lip_red + _RED_FLOOR)
    pale[(y < skin_above) | (y > skin_below)] = -1
    dark[(y < lines.outer_upper - _MARGIN) | (y > lines.outer_lower + _MARGIN)] = -1
    seen = np.maximum(dark, pale)
    beyond = np.maximum((lines.inner_upper - y) / upper_height, (y - lines.inner_lower) / lower_height)
    depth = np.minimum(y - lines.inner_upper, lines.inner_lower - y)
    deep = (depth / (_DEEP * (lines.inner_lower - lines.inner_upper)).clip(_STEP)).clip(0, 1)
    rather = np.maximum(seen, deep * (_INSIDE_FLOOR + 1) - 1) + _INSIDE * deep - _OUTSIDE * beyond.clip(0)
    return np.asarray(rather, np.float64)


def _median(values: F64, where: NDArray[np.bool_]) -> float:
    return float(np.median(values[where])) if where.any() else float(np.median(values))


def _best_lines(evidence: F64) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """The (C,) rows where the inside of the mouth begins and ends, [begin, end), that enclose the most evidence.

    Dynamic programming over the columns; the state is the pair of rows.
    """
    num_rows, num_columns = evidence.shape
    total = np.concatenate([np.zeros((1, num_columns)), np.cumsum(evidence, 0)])
    crossed = np.where(np.tri(num_rows + 1, k=-1, dtype=bool), np.inf, 0.0)
    cost = np.zeros_like(crossed)
    steps = []
    for column in total.T:
        cost, begin_step = _cheapest(cost, 0)
        cost, end_step = _cheapest(cost, 1)
        steps.append((begin_step, end_step))
        cost = cost + (column[:, None] - column[None]) + crossed
    begin, end = (int(value) for value in np.unravel_index(cost.argmin(), cost.shape))
    path = np.empty((num_columns, 2), np.intp)
    for k in reversed(range(num_columns)):
        path[k] = begin, end
        end -= int(steps[k][1][begin, end])
        begin -= int(steps[k][0][begin, end])
    return path[:, 0], path[:, 1]


def _cheapest(cost: F64, axis: int) -> tuple[F64, NDArray[np.intp]]:
    """The least cost of coming to each state by steps along one axis, and that step."""
    reach = np.arange(-_MAX_SLOPE, _MAX_SLOPE + 1)
    pads = [(0, 0), (0, 0)]
    pads[axis] = (_MAX_SLOPE, _MAX_SLOPE)
    padded = np.pad(cost, pads, constant_values=np.inf)
    size = cost.shape[axis]
    ways = np.stack([np.take(padded, np.arange(size) + _MAX_SLOPE - step, axis) for step in reach])
    ways += _SLOPE_COST * np.abs(reach)[:, None, None]
    best = ways.argmin(0)
    return np.take_along_axis(ways, best[None], 0)[0], reach[best]


def _run_together(upper: NDArray[np.intp], lower: NDArray[np.intp]) -> F64:
    """(2, C) smooth lines, a little outside of the found ones, that meet at both ends."""
    wide = np.stack([-_widened(-upper), _widened(lower)])
    reach = len(_SMOOTH) // 2
    padded = np.pad(wide, ((0, 0), (reach, reach)), mode="edge")
    smooth = np.stack([np.convolve(line, _SMOOTH, "valid") for line in padded])
    from_end = np.minimum(np.arange(len(upper)), np.arange(len(upper))[::-1])
    half = (smooth[1] - smooth[0]) / 2 * (from_end / _TAPER).clip(0, 1)
    return np.asarray(smooth.mean(0) + np.stack([-half, half]))


def _widened(line: NDArray[np.intp]) -> NDArray[np.intp]:
    padded = np.pad(line, 1, mode="edge")
    return np.maximum(np.maximum(padded[:-2], padded[2:]), line)
