"""Mouth coordinates: along and across the line of the lips, and what follows from them for every pixel.

Works on NumPy arrays and PyTorch tensors alike (`xp` is the module); shapes broadcast over T mouths.
"""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

CORNER = 0.2  # mouth half-widths from the corner in which lips cover the opening
# Mouth half-widths in which an open mouth changes from the upper to the lower jaw's picture. Where one of them ends in
# dark, a change within 0.8 pixels shows as a row of dots; seen on a soft-lit talker, who has none with 0.035 or 0.07.
_CUT = 0.035
_HOLLOW = 0.04  # eye distances between the jaws from which the middle is wholly dark; each edge takes half
_SAMPLES = 65  # of each lip line between the mouth corners
_BEND = 4  # samples: half of the way between two landmarks, whose straight connections show as corners


class LipAxes(NamedTuple):
    """Position of T mouths in region pixels, float32."""

    centre: Any  # (T, 2) half-way between the inner corners
    along: Any  # (T, 2) unit vector from the corner on the picture's left to the other
    half_width: Any  # (T,) pixels
    lips: Any  # (T, 4, 65) pixels across the axis, +down: inner upper and lower lip, and between them where the
    # upper jaw's part of the mouth ends and the lower jaw's begins


class LipCoords(NamedTuple):
    """The same for every pixel of a grid, (T, h, w)."""

    x: Any  # along the mouth, corners at -1 and 1
    y: Any  # pixels across it, +down
    upper: Any  # y of the inner upper lip at this x
    lower: Any  # ... of the inner lower lip
    start: Any  # ... where the upper jaw's part ends
    stop: Any  # ... where the lower jaw's part begins
    half_width: Any  # (T, 1, 1) pixels


def lip_axes(inner_upper: NDArray[np.floating], inner_lower: NDArray[np.floating]) -> LipAxes:
    """Finds the axes of T mouths.

    Args:
        inner_upper: (T, 11, 2) inner edge of the upper lip in pixels, corner to corner.
        inner_lower: (T, 11, 2) of the lower lip.
    """
    first, last = inner_upper[:, 0], inner_upper[:, -1]
    length = np.maximum(np.linalg.norm(last - first, axis=1), 2.0)
    along = (last - first) / length[:, None]
    across = np.stack([-along[:, 1], along[:, 0]], 1)
    centre, half_width = (first + last) / 2, length / 2
    positions = np.linspace(-1, 1, _SAMPLES)
    lips = np.empty((len(centre), 4, _SAMPLES), np.float32)
    for k, lip in enumerate((inner_upper, inner_lower)):
        offset = lip - centre[:, None]
        x = np.maximum.accumulate((offset @ along[:, :, None])[..., 0] / half_width[:, None], 1)
        y = (offset @ across[:, :, None])[..., 0]
        for t in range(len(centre)):
            lips[t, k] = np.interp(positions, x[t], y[t])
    lips[:, :2] = lips[:, :2] @ _smoothing()
    middle = lips[:, :2].mean(1)
    lips[:, 0], lips[:, 1] = np.minimum(lips[:, 0], middle), np.maximum(lips[:, 1], middle)
    lips[:, 2:] = lips[:, :2]
    return LipAxes(centre.astype(np.float32), along.astype(np.float32), half_width.astype(np.float32), lips)


@cache
def _smoothing() -> NDArray[np.float32]:
    """(65, 65) `lines @ smoothing` are smooth lines between the same ends."""
    reach = 3 * _BEND
    weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) / _BEND) ** 2)
    beyond = np.pad(np.eye(_SAMPLES), ((reach, reach), (0, 0)), "reflect", reflect_type="odd")
    once = np.array([weights @ beyond[k : k + 2 * reach + 1] for k in range(_SAMPLES)]).T / weights.sum()
    # What the first time took from a bow is given back.
    return np.asarray(2 * once - once @ once, np.float32)


def lip_coords(xp: Any, axes: LipAxes, columns: Any, rows: Any) -> LipCoords:
    """Mouth coordinates of pixels; `columns` and `rows` (T or 1, h, w) hold their positions in region pixels."""
    half_width = axes.half_width[:, None, None]
    x, y = _along_across(axes, columns, rows)
    place = ((x + 1) * ((_SAMPLES - 1) / 2)).clip(0, _SAMPLES - 1.001)
    whole = xp.floor(place)
    part = place - whole
    rest = 1 - part
    table = axes.lips.reshape(-1)
    base = xp.asarray(whole, dtype=xp.int64)
    if len(axes.lips) > 1:
        base = base + 4 * _SAMPLES * _counter(xp, base)
    upper, lower, start, stop = (
        rest * look_up(table[k:], base) + part * look_up(table[k + 1 :], base) for k in range(0, 4 * _SAMPLES, _SAMPLES)
    )
    return LipCoords(x, y, upper, lower, start, stop, half_width)


def _along_across(axes: LipAxes, columns: Any, rows: Any) -> tuple[Any, Any]:
    """`LipCoords.x` and `y` of pixels."""
    half_width = axes.half_width[:, None, None]
    dx, dy = columns - axes.centre[:, 0, None, None], rows - axes.centre[:, 1, None, None]
    along_x, along_y = axes.along[:, 0, None, None], axes.along[:, 1, None, None]
    return dx * (along_x / half_width) + dy * (along_y / half_width), dy * along_x - dx * along_y


def place_in(axes: LipAxes, points: Any) -> tuple[Any, Any]:
    """`LipCoords.x` and `y` of (T, 2) points in region pixels, one for each mouth: (T,) each."""
    x, y = _along_across(axes, points[:, 0, None, None], points[:, 1, None, None])
    return x[:, 0, 0], y[:, 0, 0]


def look_up(table: Any, index: Any) -> Any:
    """Entries of a flat table; NumPy's `take` is five times as fast there as an index is."""
    return table.take(index, mode="clip") if isinstance(table, np.ndarray) else table[index]


def _counter(xp: Any, like: Any) -> Any:
    """(T, 1, 1) 0, 1, 2, ... on the device of `like`."""
    return xp.cumsum(xp.ones_like(like[:, :1, :1]), 0) - 1


def part_jaws(axes: LipAxes, own_gap: NDArray[np.float32], bite: NDArray[np.float32]) -> LipAxes:
    """Finds which parts of an open mouth belong to the upper and to the lower jaw.

    Teeth are rigid: what stood above the exemplar's bite line keeps its distance from the upper lip, what stood below
    it from the lower one. A mouth that opens further than its exemplar shows the dark between the jaws, one that opens
    less hides the lower teeth behind the upper ones.

    Args:
        axes: T mouths as they shall be.
        own_gap: (T, 65) pixels between the lips of their exemplars.
        bite: (T,) share of that gap above the line where the jaws meet.
    """
    upper, lower = axes.lips[:, 0], axes.lips[:, 1]
    start = np.minimum(upper + bite[:, None] * own_gap, lower)
    stop = np.maximum(lower - (1 - bite[:, None]) * own_gap, start)
    return axes._replace(lips=np.stack([upper, lower, start, stop], 1))


def lower_layer_weight(coords: LipCoords, hard: Any = 0.0) -> Any:
    """(T, h, w) share of the lower layer: 0 on the upper lip and above, 1 on the lower lip and below.

    Beside the mouth the change from 0 to 1 widens with the distance from the corner. In an open mouth it lies between
    the jaws. `hard` from 0 to 1 makes the change sudden and puts it half-way between the lips, so that nothing of what
    lay between them shows.
    """
    x, y, upper, lower, start, stop, half_width = coords
    soft = 1.0 - hard
    parted = soft * opened(coords)
    middle = (upper + lower) / 2
    middle = middle + parted * ((start + stop) / 2 - middle)
    width = (lower - upper) * (soft - parted) + parted * (stop - start).clip(min=_CUT * half_width)
    width = width + (_side_width(x, half_width, hard) - width).clip(min=0)  # max of both
    return ((y - middle) / width + 0.5).clip(0, 1)


def side_weight(axes: LipAxes, columns: Any, rows: Any, hard: float) -> tuple[Any, Any]:
    """`lower_layer_weight` beside the mouth, where the lips are one line.

    Args:
        axes: T mouths.
        columns: See `lip_coords`.
        rows: See `lip_coords`.
        hard: See `lower_layer_weight`.

    Returns:
        (T, h, w) weight, right beside the mouth, and (T, h, w) bool where the pixels lie between its corners instead.
    """
    half_width = axes.half_width[:, None, None]
    x, y = _along_across(axes, columns, rows)
    return (y / _side_width(x, half_width, hard) + 0.5).clip(0, 1), abs(x) < 1


def _side_width(x: Any, half_width: Any, hard: Any) -> Any:
    """Least pixels across the mouth in which the weight goes from 0 to 1."""
    return 0.02 + 0.78 * (1.0 - hard) + 0.9 * (abs(x) - 1).clip(min=0) * half_width


def to_lip(axes: LipAxes, coords: LipCoords, is_lower: bool) -> tuple[Any, Any]:
    """(T, h, w) pixels x, y from here straight to the edge of a lip, of what lies beyond it between the corners.

    Read with the shift of the lip's edge, what stands behind a lip goes with it and keeps its size; the field itself
    ends far away, and would stretch teeth as the mouth opens.
    """
    beyond = (coords.lower - coords.y).clip(min=0) if is_lower else (coords.upper - coords.y).clip(max=0)
    beyond = beyond * (abs(coords.x) < 1)
    return -beyond * axes.along[:, 1, None, None], beyond * axes.along[:, 0, None, None]


def smooth_cut(luma: Any, above: Any, below: Any, coords: LipCoords, hard: Any) -> Any:
    """Takes the steps out of a sudden change: pixels that it cuts show both sides, each by its share.

    Args:
        luma: (T, h, w).
        above: The same, each pixel's neighbour above.
        below: The neighbour below.
        coords: Mouth coordinates there.
        hard: As in `lower_layer_weight`.
    """
    x, y, upper, lower, _, _, _ = coords
    offset = y - (upper + lower) / 2
    share = (0.5 - abs(offset)).clip(min=0) * (abs(x) < 1)
    return luma + hard * share * (above + (offset < 0) * (below - above) - luma)


def opened(coords: LipCoords) -> Any:
    """(T, h, w) how far the mouth is open here, 0 to 1."""
    return ((coords.lower - coords.upper) / (0.06 * coords.half_width) - 1).clip(0, 1)


def hollow(coords: LipCoords, eye_distance: Any) -> Any:
    """(T, h, w) how far a pixel lies in the dark that opens between the jaws, 0 to 1.

    Its edges are soft, as teeth are that stand behind lips, and a thin gap is dark by less: a line one pixel wide
    would be drawn as a row of dots otherwise.

    Args:
        coords: Mouth coordinates.
        eye_distance: (T,) pixels.
    """
    whole = _HOLLOW * eye_distance[:, None, None]
    edge = (whole / 2).clip(min=1.0)
    below = ((coords.y - coords.start) / edge + 0.5).clip(0, 1)
    above = ((coords.stop - coords.y) / edge + 0.5).clip(0, 1)
    extent = ((coords.stop - coords.start) / whole).clip(0, 1)
    return opened(coords) * extent * below * above


def darken(luma: Any, dark: Any, skin: Any) -> Any:
    """Takes away what light `luma` has above that of the mouth's cavity, where `dark` from 0 to 1 says so."""
    return luma - 0.85 * dark * (luma - 0.3 * skin).clip(min=0)


def rim_feather(half_width: Any) -> Any:
    """Pixels across the lips' edges in which the inside of the mouth begins to show."""
    return (0.045 * half_width).clip(min=1.0)


def inside_alpha(coords: LipCoords, shrink: float = 0.0) -> Any:
    """(T, h, w) soft mask, 0 to 1, of the opening between the lips, less `shrink` mouth half-widths at its rim."""
    x, y, upper, lower, _, _, half_width = coords
    feather = rim_feather(half_width)
    rim = shrink * half_width
    below = ((y - upper - rim) / feather + 0.25).clip(0, 1)
    above = ((lower - y - rim) / feather + 0.25).clip(0, 1)
    beside = ((1 - abs(x)) / CORNER).clip(0, 1)
    return below * above * beside * ((lower - upper) / feather).clip(0, 1)


def behind_lip(coords: LipCoords, shrink: float) -> tuple[Any, Any]:
    """Looks behind the upper lip: what it hides is taken from just below its edge.

    Args:
        coords: Mouth coordinates in the picture that is read.
        shrink: Mouth half-widths to keep away from the lips.

    Returns:
        (T, h, w) pixels across the mouth by which a place has to move, and (T, h, w) how far it then shows the inside
        of the mouth, 0 to 1.
    """
    x, y, upper, lower, _, _, half_width = coords
    feather = rim_feather(half_width)
    rim = shrink * half_width
    shift = (upper + rim - y).clip(min=0)
    above = ((lower - y - shift - rim) / feather + 0.25).clip(0, 1)
    beside = ((1 - abs(x)) * half_width / feather).clip(0, 1)
    return shift, above * beside * ((lower - upper) / feather).clip(0, 1)
