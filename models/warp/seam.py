"""Mouth coordinates: along and across the line of the lips, and what follows from them for every pixel.

Works on NumPy arrays and PyTorch tensors alike (`xp` is the module); shapes broadcast over T mouths.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

_SAMPLES = 65  # of each lip line between the mouth corners


class MouthAxes(NamedTuple):
    """Position of T mouths in region pixels, float32."""

    centre: Any  # (T, 2) half-way between the inner corners
    along: Any  # (T, 2) unit vector from the corner on the picture's left to the other
    half_width: Any  # (T,) pixels
    lips: Any  # (T, 2, 65) pixels across the axis, of the inner upper and lower lip, +down


class MouthCoords(NamedTuple):
    """The same for every pixel of a grid, (T, h, w)."""

    x: Any  # along the mouth, corners at -1 and 1
    y: Any  # pixels across it, +down
    upper: Any  # y of the inner upper lip at this x
    lower: Any  # ... of the inner lower lip
    half_width: Any  # (T, 1, 1) pixels


def mouth_axes(inner_upper: NDArray[np.floating], inner_lower: NDArray[np.floating]) -> MouthAxes:
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
    lips = np.empty((len(centre), 2, _SAMPLES), np.float32)
    for k, lip in enumerate((inner_upper, inner_lower)):
        offset = lip - centre[:, None]
        x = np.maximum.accumulate((offset @ along[:, :, None])[..., 0] / half_width[:, None], 1)
        y = (offset @ across[:, :, None])[..., 0]
        for t in range(len(centre)):
            lips[t, k] = np.interp(positions, x[t], y[t])
    middle = lips.mean(1)
    lips[:, 0], lips[:, 1] = np.minimum(lips[:, 0], middle), np.maximum(lips[:, 1], middle)
    return MouthAxes(centre.astype(np.float32), along.astype(np.float32), half_width.astype(np.float32), lips)


def mouth_coords(xp: Any, axes: MouthAxes, columns: Any, rows: Any) -> MouthCoords:
    """Mouth coordinates of pixels; `columns` and `rows` (T or 1, h, w) hold their positions in region pixels."""
    half_width = axes.half_width[:, None, None]
    dx, dy = columns - axes.centre[:, 0, None, None], rows - axes.centre[:, 1, None, None]
    along_x, along_y = axes.along[:, 0, None, None], axes.along[:, 1, None, None]
    x = (dx * along_x + dy * along_y) / half_width
    y = dy * along_x - dx * along_y
    place = ((x + 1) * ((_SAMPLES - 1) / 2)).clip(0, _SAMPLES - 1.001)
    whole = xp.asarray(place, dtype=xp.int32)
    part = place - xp.floor(place)
    table = axes.lips.reshape(-1)
    base = whole + 2 * _SAMPLES * _counter(xp, whole)
    upper, lower = ((1 - part) * table[base + k] + part * table[base + k + 1] for k in (0, _SAMPLES))
    return MouthCoords(x, y, upper, lower, half_width)


def _counter(xp: Any, like: Any) -> Any:
    """(T, 1, 1) 0, 1, 2, ... on the device of `like`."""
    return xp.cumsum(xp.ones_like(like[:, :1, :1]), 0) - 1


def lower_layer_weight(coords: MouthCoords, hard: Any = 0.0) -> Any:
    """(T, h, w) share of the lower layer: 0 on the upper lip and above, 1 on the lower lip and below.

    Beside the mouth the change from 0 to 1 widens with the distance from the corner. In an open mouth the layers
    meet towards the lower lip: the upper teeth are fixed to the skull and shall not stretch. `hard` from 0 to 1 makes
    the change between the lips sudden, so that nothing of what lay between them shows.
    """
    x, y, upper, lower, half_width = coords
    beside = (abs(x) - 1).clip(min=0) * half_width
    gap = lower - upper
    soft = 1.0 - hard
    width = gap * soft + (0.02 + 0.78 * soft + 0.9 * beside - gap * soft).clip(min=0)  # max of both
    weight = ((y - (upper + lower) / 2) / width + 0.5).clip(0, 1)
    is_open = (gap / (0.06 * half_width) - 1).clip(0, 1)
    return weight + is_open * (((weight - 0.2) / 0.8).clip(min=0) - weight)


def inside_alpha(coords: MouthCoords, shrink: float = 0.0) -> Any:
    """(T, h, w) soft mask, 0 to 1, of the opening between the lips, less `shrink` mouth half-widths at its rim."""
    x, y, upper, lower, half_width = coords
    feather = (0.045 * half_width).clip(min=1.0)
    rim = shrink * half_width
    below = ((y - upper - rim) / feather + 0.25).clip(0, 1)
    above = ((lower - y - rim) / feather + 0.25).clip(0, 1)
    beside = ((1 - abs(x)) * half_width / feather).clip(0, 1)
    return below * above * beside * ((lower - upper) / feather).clip(0, 1)


def behind_lip(coords: MouthCoords, shrink: float) -> tuple[Any, Any]:
    """Looks behind the upper lip: what it hides is taken from just below its edge.

    Args:
        coords: Mouth coordinates in the picture that is read.
        shrink: Mouth half-widths to keep away from the lips.

    Returns:
        (T, h, w) pixels across the mouth by which a place has to move, and (T, h, w) how far it then shows the inside
        of the mouth, 0 to 1.
    """
    x, y, upper, lower, half_width = coords
    feather = (0.045 * half_width).clip(min=1.0)
    rim = shrink * half_width
    shift = (upper + rim - y).clip(min=0)
    above = ((lower - y - shift - rim) / feather + 0.25).clip(0, 1)
    beside = ((1 - abs(x)) * half_width / feather).clip(0, 1)
    return shift, above * beside * ((lower - upper) / feather).clip(0, 1)
