"""Lip coordinates, along and across the lip line, and the per-pixel weights derived from them.

Works on NumPy arrays and PyTorch tensors (`xp` is the module); shapes broadcast over T mouths.
"""

from __future__ import annotations

from functools import cache
from types import ModuleType
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.engines.warp.painting.planes import F32
from models.geometry.arrays import Array

CORNER = 0.2  # mouth half-widths from the corner over which lips cover the opening
RIM = 0.045  # mouth half-widths across the lip edge over which the interior fades in
# Mouth half-widths over which an open mouth changes from the upper jaw's image to the lower jaw's. Next to dark areas a
# transition within 0.8 pixels shows as a row of dots; seen on a softly lit speaker, but not with 0.035 or 0.07.
CUT = 0.035
_THIN_GAP = 4.0  # pixels between the jaws of a still up to which no drawn cavity shows: it would be a line
CAVITY = 0.04  # eye distances between the jaws from which the middle is fully dark; each edge takes half
# Eye distances: a gap this wide shows nothing of the teeth, and one wider by `PARTED` shows them completely.
TOUCHING, PARTED = 0.018, 0.034
_SAMPLES = 65  # of each lip line between the mouth corners
_ROUNDING = 1.0  # pixels around the lips in which they may be after rounding
_BEND = 4  # samples: half the distance between landmarks; smooths the corners of the polyline


class LipAxes(NamedTuple):
    """Axes and lip lines of T mouths in region pixels, float32."""

    centre: Array  # (T, 2) half-way between the inner corners
    along: Array  # (T, 2) unit vector from the image-left to the image-right corner
    half_width: Array  # (T,) pixels
    lips: Array  # (T, 4, 65) pixels across the axis, +down: inner upper lip, inner lower lip, end of the upper
    # jaw's part of the opening, start of the lower jaw's part


class LipCoords(NamedTuple):
    """Lip coordinates of every pixel of a grid, (T, h, w)."""

    x: Array  # along the mouth, corners at -1 and 1
    y: Array  # pixels across it, +down
    upper: Array  # y of the inner upper lip at this x
    lower: Array  # ... of the inner lower lip
    start: Array  # ... where the upper jaw's part ends
    stop: Array  # ... where the lower jaw's part begins
    half_width: Array  # (T, 1, 1) pixels


def lip_axes(inner_upper: NDArray[np.floating], inner_lower: NDArray[np.floating]) -> LipAxes:
    """Compute the axes of T mouths from the (T, 11, 2) inner edges of their lips in pixels, corner to corner."""
    first, last = inner_upper[:, 0], inner_upper[:, -1]
    length = np.maximum(np.linalg.norm(last - first, axis=1), 2.0)
    along = (last - first) / length[:, None]
    across = np.stack([-along[:, 1], along[:, 0]], 1)
    centre, half_width = (first + last) / 2, length / 2
    lips = np.empty((len(centre), 4, _SAMPLES), np.float32)
    for k, lip in enumerate((inner_upper, inner_lower)):
        offset = lip - centre[:, None]
        x = np.maximum.accumulate((offset @ along[:, :, None])[..., 0] / half_width[:, None], 1)
        y = (offset @ across[:, :, None])[..., 0]
        lips[:, k] = _interpolate(x, y)
    lips[:, :2] = lips[:, :2] @ _smoothing_matrix()
    middle = lips[:, :2].mean(1)
    lips[:, 0], lips[:, 1] = np.minimum(lips[:, 0], middle), np.maximum(lips[:, 1], middle)
    lips[:, 2:] = lips[:, :2]
    return LipAxes(centre.astype(np.float32), along.astype(np.float32), half_width.astype(np.float32), lips)


def _interpolate(x: NDArray[np.floating], y: NDArray[np.floating]) -> NDArray[np.floating]:
    """Interpolate T polylines through (T, 11) ascending x and y linearly, at 65 positions from -1 to 1: (T, 65)."""
    positions = np.linspace(-1, 1, _SAMPLES)
    last = x.shape[1] - 2
    before = ((x[:, :, None] <= positions).sum(1) - 1).clip(0, last)  # (T, 65) the last point at or before a position
    x0, x1, y0, y1 = (np.take_along_axis(axis, before + step, 1) for axis in (x, y) for step in (0, 1))
    share = ((positions - x0) / np.maximum(x1 - x0, np.finfo(np.float32).tiny)).clip(0, 1)
    return np.asarray(y0 + share * (y1 - y0))


@cache
def _smoothing_matrix() -> NDArray[np.float32]:
    """Return a (65, 65) matrix: `lines @ matrix` smooths lines and keeps their ends."""
    reach = 3 * _BEND
    weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) / _BEND) ** 2)
    beyond = np.pad(np.eye(_SAMPLES), ((reach, reach), (0, 0)), "reflect", reflect_type="odd")
    once = np.array([weights @ beyond[k : k + 2 * reach + 1] for k in range(_SAMPLES)]).T / weights.sum()
    # Twicing: restores what one pass removes from a bow.
    return np.asarray(2 * once - once @ once, np.float32)


def lip_coords(xp: ModuleType, axes: LipAxes, columns: Array, rows: Array) -> LipCoords:
    """Return the lip coordinates of pixels at `columns`, `rows` (T or 1, h, w) in region pixels."""
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


def _along_across(axes: LipAxes, columns: Array, rows: Array) -> tuple[Array, Array]:
    """Return `LipCoords.x` and `y` of pixels."""
    half_width = axes.half_width[:, None, None]
    dx, dy = columns - axes.centre[:, 0, None, None], rows - axes.centre[:, 1, None, None]
    along_x, along_y = axes.along[:, 0, None, None], axes.along[:, 1, None, None]
    return dx * (along_x / half_width) + dy * (along_y / half_width), dy * along_x - dx * along_y


def place_in(axes: LipAxes, points: Array) -> tuple[Array, Array]:
    """Return (T,) `LipCoords.x` and `y` of (T, 2) points in region pixels, one per mouth."""
    x, y = _along_across(axes, points[:, 0, None, None], points[:, 1, None, None])
    return x[:, 0, 0], y[:, 0, 0]


def look_up(table: Array, index: Array) -> Array:
    """Look up entries of a flat table; in NumPy, `take` is five times as fast as indexing."""
    return table.take(index, mode="clip") if isinstance(table, np.ndarray) else table[index]


def _counter(xp: ModuleType, like: Array) -> Array:
    """Return (T, 1, 1) 0, 1, 2, ... on the device of `like`."""
    return xp.cumsum(xp.ones_like(like[:, :1, :1]), 0) - 1


def part_jaws(axes: LipAxes, own_gap: NDArray[np.float32], bite: NDArray[np.float32]) -> LipAxes:
    """Split the opening of T mouths between the upper and the lower jaw.

    Teeth are rigid: everything above the exemplar's bite line keeps its distance from the upper lip, everything below
    it its distance from the lower lip. A mouth that opens further than its exemplar shows the dark between the jaws;
    one that opens less hides the lower teeth behind the upper ones.

    Args:
        axes: T target mouths.
        own_gap: (T, 65) pixels between the lips of their exemplars.
        bite: (T,) fraction of that gap above the line where the jaws meet.
    """
    upper, lower = axes.lips[:, 0], axes.lips[:, 1]
    start = np.minimum(upper + bite[:, None] * own_gap, lower)
    stop = np.maximum(lower - (1 - bite[:, None]) * own_gap, start)
    return axes._replace(lips=np.stack([upper, lower, start, stop], 1))


def lower_layer_weight(coords: LipCoords, hard: Array = 0.0) -> Array:
    """Return the (T, h, w) weight of the lower layer: 0 on the upper lip and above, 1 on the lower lip and below.

    Beside the mouth the transition widens with the distance from the corner. In an open mouth it lies between the jaws.
    `hard` from 0 to 1 makes the transition abrupt and puts it half-way between the lips, which hides their interior.
    """
    x, y, upper, lower, start, stop, half_width = coords
    soft = 1.0 - hard
    parted = soft * openness(coords)
    middle = (upper + lower) / 2
    middle = middle + parted * ((start + stop) / 2 - middle)
    width = (lower - upper) * (soft - parted) + parted * (stop - start).clip(min=CUT * half_width)
    width = width + (_side_width(x, half_width, hard) - width).clip(min=0)  # max of both
    return ((y - middle) / width + 0.5).clip(0, 1)


def _side_width(x: Array, half_width: Array, hard: Array) -> Array:
    """Return the minimum width of the transition across the mouth, in pixels."""
    return 0.02 + 0.78 * (1.0 - hard) + 0.9 * (abs(x) - 1).clip(min=0) * half_width


def to_lip(axes: LipAxes, coords: LipCoords, is_lower: bool) -> tuple[Array, Array]:
    """Return (T, h, w) offsets x, y straight to the edge of a lip for pixels beyond it, between the corners.

    Sampled with the displacement of the lip edge, the interior behind a lip moves with it and keeps its size. The field
    itself would stretch teeth as the mouth opens.
    """
    beyond = (coords.lower - coords.y).clip(min=0) if is_lower else (coords.upper - coords.y).clip(max=0)
    beyond = beyond * (abs(coords.x) < 1)
    return -beyond * axes.along[:, 1, None, None], beyond * axes.along[:, 0, None, None]


def smooth_cut(luma: Array, above: Array, below: Array, coords: LipCoords, hard: Array) -> Array:
    """Anti-alias an abrupt transition in (T, h, w) luma: pixels that it crosses show both sides in proportion.

    `above` and `below` are the neighbours of each pixel; for `hard` see `lower_layer_weight`.
    """
    x, y, upper, lower, _, _, _ = coords
    offset = y - (upper + lower) / 2
    share = (0.5 - abs(offset)).clip(min=0) * (abs(x) < 1)
    return luma + hard * share * (above + (offset < 0) * (below - above) - luma)


def openness(coords: LipCoords) -> Array:
    """Return (T, h, w) how far the mouth is open at this x, 0 to 1."""
    return ((coords.lower - coords.upper) / (0.06 * coords.half_width) - 1).clip(0, 1)


def cavity(coords: LipCoords, eye_distance: Array, closing: Array = 0.0, lower_rim: Array = 0.0) -> Array:
    """Return (T, h, w) how far a pixel lies in the dark between jaws or closing lips, 0 to 1.

    The edges of the gap between the jaws are soft, like teeth behind lips, and a thin gap is less dark: otherwise a
    line one pixel wide would show as a row of dots. Closing lips shade the gap between them, more where it is narrower:
    teeth in an image of parted lips are lit, and squeezed together they would show as bright dots.

    Args:
        coords: Lip coordinates of (T, h, w) pixels.
        eye_distance: (T,) in pixels.
        closing: (T, 1, 1) or one value: how far the lips close relative to their image, 0 to 1.
        lower_rim: As for `inside_alpha`.
    """
    unit = eye_distance[:, None, None]
    edge = (CAVITY * unit / 2).clip(min=1.0)
    below = ((coords.y - coords.start) / edge + 0.5).clip(0, 1)
    above = ((coords.stop - coords.y) / edge + 0.5).clip(0, 1)
    between_jaws = openness(coords) * ((coords.stop - coords.start) / (CAVITY * unit)).clip(0, 1) * below * above
    narrow = 1 - (((coords.lower - coords.upper) / unit - TOUCHING) / PARTED).clip(0, 1)
    between_lips = closing * narrow * inside_alpha(coords, lower_rim)
    return between_jaws + (between_lips - between_jaws).clip(min=0)  # max of both


def darken(luma: Array, dark: Array, skin: Array) -> Array:
    """Darken `luma` towards the brightness of the mouth cavity, by `dark` from 0 to 1."""
    return luma - 0.85 * dark * (luma - 0.3 * skin).clip(min=0)


def rim_feather(half_width: Array) -> Array:
    """Return the pixels across the lip edge over which the interior fades in."""
    return (RIM * half_width).clip(min=1.0)


def inside_alpha(coords: LipCoords, lower_rim: Array = 0.0) -> Array:
    """Return the (T, h, w) soft mask, 0 to 1, of the opening.

    `lower_rim`, (T, 1, 1) or one value, is how much of it belongs to the lower lip, in mouth half-widths.
    """
    x, y, upper, lower, _, _, half_width = coords
    feather = rim_feather(half_width)
    below = ((y - upper) / feather + 0.25).clip(0, 1)
    above = ((lower - y - lower_rim * half_width) / feather + 0.25).clip(0, 1)
    beside = ((1 - abs(x)) / CORNER).clip(0, 1)
    return below * above * beside * ((lower - upper) / feather).clip(0, 1)


def behind_lip(coords: LipCoords, shrink: float, bite: Array, drop: Array) -> tuple[Array, Array]:
    """Find what to sample between the lips: hidden pixels are replaced by those just below the upper lip.

    What is above the bite line is fixed to the skull, what is below it moves with the lower lip. Nothing is shown
    between jaws that part, unless by a few pixels only: there, the bite line is stretched.

    Args:
        coords: Coordinates in the image that is sampled.
        shrink: Mouth half-widths that are kept from the lips.
        bite: (T, 1, 1) where the jaws meet in that image, as a fraction of its lip gap from above.
        drop: (T, h, w) pixels by which the lower lip is lower than in that image.

    Returns:
        (T, h, w) pixels across the mouth by which to shift a position, and (T, h, w) how far it then shows the mouth
        interior, 0 to 1.
    """
    x, y, upper, lower, _, _, half_width = coords
    feather = rim_feather(half_width)
    rim = shrink * half_width
    drop = drop.clip(min=0)
    lift = (y - upper - bite * (lower - upper)).clip(min=0)
    lift = lift - (lift - drop).clip(min=0)  # min of both
    shift = (upper + rim - y).clip(min=0) - lift
    above = ((lower - y - shift - rim) / feather + 0.25).clip(0, 1)
    beside = ((1 - abs(x)) * half_width / feather).clip(0, 1)
    below = drop - lift
    into = below - (below - lift).clip(min=0)  # min of both: how far between the jaws
    dark = (into / feather).clip(0, 1) * (drop / _THIN_GAP - 1).clip(0, 1)
    return shift, above * beside * ((lower - upper) / feather).clip(0, 1) * (1 - dark)


def near_lips(centre: F32, along: F32, half_width: float, lines: F32, shape: tuple[int, ...]) -> tuple[slice, slice]:
    """Return the rows and columns of a box that contain the rectangle between the corners and around the lips.

    The arguments but the (h, w) `shape` of the box are those of one mouth in `LipAxes`, its centre relative to the box.
    """
    (middle_x, middle_y), (cosine, sine) = centre.tolist(), along.tolist()
    reach = max(RIM * half_width, 1.0) + _ROUNDING
    top, bottom = float(lines[0].min()) - reach, float(lines[1].max()) + reach
    corners = [(x, y) for x in (-half_width, half_width) for y in (top, bottom)]
    rows = [middle_y + x * sine + y * cosine for x, y in corners]
    columns = [middle_x + x * cosine - y * sine for x, y in corners]
    return _even(rows, shape[0]), _even(columns, shape[1])


def _even(places: list[float], length: int) -> slice:
    """Return the pixels of a side of that even length that contain all places: at least two, with even edges."""
    first = min(max(int(min(places)), 0), length - 1)
    stop = min(max(int(max(places)) + 2, first + 1), length)
    return slice(first & ~1, (stop + 1) & ~1)
