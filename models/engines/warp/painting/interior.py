"""A drawn mouth interior for sources that show none: cavity, tongue, teeth and inner lip.

It is blurred, because teeth in real footage have little contrast.
Works on NumPy arrays and PyTorch tensors (`xp` is the module). Lengths are in eye distances.
"""

from __future__ import annotations

from functools import cache
from types import ModuleType
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.avatar.eye_white import EyeWhite
from models.engines.warp.chunk import FaceChunk
from models.engines.warp.painting.lip_coordinates import (
    PARTED,
    TOUCHING,
    LipAxes,
    LipCoords,
    lip_coords,
    look_up,
    near_lips,
    place_in,
)
from models.engines.warp.painting.planes import F32, Box, grid, within
from models.geometry.arrays import Array
from models.geometry.thin_plate import GRID

# Sigma in eye distances, and its minimum in pixels: with 0.4 pixels an independent measure finds two GRID speakers 1.3
# times as sharp as they are.
BLUR, MIN_BLUR = 0.005, 0.75
OWN_SHRINK = 0.04  # mouth half-widths: own teeth are taken from inside the lips, not from their rim
# Luma relative to the skin; pairs: in a narrow gap, in a wide gap. Means over open mouths of six GRID speakers. Drawn
# interiors match their brightness maps across and down the opening within .1, except for upper teeth in a wide gap,
# which real mouths show sometimes (.59 on average, drawn .80). In the wild, the middle of wide openings is brighter by
# up to .2, from teeth and tongues that come and go.
_CAVITY, _CORNER, _TONGUE = (0.41, 0.34), (0.0, 0.4), 0.56
# U and V relative to the lip's distance from grey: in the darkest fifth of the same mouths, V is .56 to .58 of it for
# every speaker (.66 to .89 of the skin's), U .64 to 1.0.
_CHROMA = (0.78, 0.57)
# Luma of the front teeth in full light, relative to the whites of the eyes. The brightest tenth of drawn openings is
# then 1.05 times the true one with these speakers and .99 times with nine in the wild; the darkest tenth .99 and .97
# times.
_TEETH_LIGHT = 1.53
# Their U and V, as a fraction of the way from the whites of the eyes to the skin: lips redden the light between them.
# The brightest parts of open mouths are at .3 and .4 for nine speakers in the wild, and at .1 and .5 for six GRID
# speakers, whose mouths are small and blend into their lips. Without it V is too low by 5 and 13 levels.
_TEETH_CHROMA: Final = np.array([0.2, 0.4], np.float32)
_LOWER_LIGHT = 0.89  # luma of the lower teeth relative to the upper ones
_JOINT = 0.22  # share of luma that teeth lose where they meet
_LOWER_SIZE = 0.66  # width of the lower teeth relative to the upper ones
_SHADED = 0.5  # share of the gap that fully rounded lips shade
_RIM = 0.012  # eye distances over which the edge of a tooth fades
_TEETH_BELOW_SEAM = 0.042  # edge of the upper teeth below the closed lip line

# Upper teeth from the middle line outwards: typical anatomical widths in millimetres, and millimetres per eye distance.
# They stand on a circular arch of anatomical width, fade into the dark of the cheeks as they turn away, and end higher
# the farther out they are. The second teeth are slightly shorter than their neighbours.
_TOOTH_WIDTHS, _EYE_DISTANCE_MM = (8.5, 6.5, 7.5, 7.0), 104.0
_ARCH_RADIUS, _FACING_POWER = 0.21, 2
_EDGE_RISE, _SHORTER, _SHORTER_BY = 0.4, 1, 0.006
_ROW_SAMPLES = 276


class Colours(NamedTuple):
    """Y, U, V of T faces, 0 to 255."""

    skin: Array  # (T, 3) of the cheeks
    lip: Array  # (T, 3) of the lower lip
    teeth: Array  # (T, 3) of the front teeth in full light


def usual_teeth(skin: NDArray[np.float32], eye_white: EyeWhite) -> NDArray[np.float32]:
    """Estimate (T, 3) Y, U, V of teeth from (T, 3) skin colour and eye whites, for faces that show no teeth.

    Skin varies in tone and teeth do not, so skin alone is a poor reference; the whites of the eyes are a good one.
    """
    light = _TEETH_LIGHT * eye_white.light * skin[:, :1]
    chroma = skin[:, 1:] + (1 - _TEETH_CHROMA) * eye_white.chroma
    return np.hstack([light, chroma]).clip(0, 255).astype(np.float32)


def draw_interior(
    xp: ModuleType,
    coords: LipCoords,
    eye_distance: Array,
    seam: tuple[Array, Array],
    colours: Colours,
    rounding: Array,
    own_teeth: Array,
) -> Array:
    """Draw the interior at all given pixels; `lip_coordinates.inside_alpha` masks where it shows.

    Args:
        xp: `numpy` or `torch`.
        coords: Lip coordinates of (T, h, w) pixels.
        eye_distance: (T,) in the pixels of `coords`.
        seam: (T,) x and (T,) y, in these coordinates, of the middle of the closed lip line, which is fixed to the
            skull like the upper teeth and marks their middle line.
        colours: Colours of the T faces.
        rounding: (T,) how far the lips are rounded, 0 to 1.
        own_teeth: (T,) weight of the source's own teeth; beside these, none are drawn.

    Returns:
        (T, 3, h, w) Y, U, V, not yet blurred by `BLUR`.
    """
    unit, middle, seam = (value[:, None, None] for value in (eye_distance, *seam))
    x, y, upper, lower, _, _, half_width = coords
    beside = (x - middle) * half_width / unit
    gap, edge = lower - upper, abs(x).clip(max=1)
    depth = (gap / (0.12 * unit)).clip(0, 1)
    tongue = _smooth((y - lower + 0.55 * gap) / (0.4 * gap).clip(min=1.0)) * ((gap / unit - 0.06) / 0.08).clip(0, 1)
    corner = 1 - (_CORNER[0] + (_CORNER[1] - _CORNER[0]) * depth) * edge**2
    light = (_CAVITY[0] + (_CAVITY[1] - _CAVITY[0]) * depth) * corner
    light = light + tongue * (_TONGUE * corner - light)
    skin, lip, teeth = ([colour[:, k, None, None] for k in range(3)] for colour in colours)
    shows = parting(coords, eye_distance, rounding) * (1 - own_teeth[:, None, None])
    luma, u, v = skin[0] * light, *(128 + share * (of - 128) for of, share in zip(lip[1:], _CHROMA, strict=True))
    lit = 0.5 + 0.5 * (gap / (0.12 * unit)).clip(0, 1)  # a narrow gap lets in little light
    for cover, shine in (
        _teeth(beside, y, seam, unit),
        _lower_teeth(beside, y, lower, gap, unit),
    ):
        cover = cover * shows
        luma = luma + cover * (teeth[0] * shine * lit - luma)
        u, v = u + cover * (teeth[1] - u), v + cover * (teeth[2] - v)
    luma = luma * (0.72 + 0.28 * ((y - upper) / (0.035 * unit)).clip(0, 1))  # shadow of the upper lip
    # The moist inner side of the lower lip, visible only when the mouth opens.
    band = _moist(gap, unit)
    moist = _smooth((y - lower + band) / band) * (gap / (0.05 * unit)).clip(0, 1)
    touching = 1 - parting(coords, eye_distance)  # there, shaded lip shows between the lips
    reddened = moist + (1 - moist) * touching
    luma = luma + moist * (lip[0] * (0.55 + 0.37 * moist) - luma)  # it faces away from the light
    return xp.stack([luma, u + reddened * (lip[1] - u), v + reddened * (lip[2] - v)], 1)


def lip_shadow(coords: LipCoords, eye_distance: Array) -> Array:
    """Return the (T, h, w) factor by which the upper lip shades a source's own teeth."""
    depth = (coords.y - coords.upper) / (0.03 * eye_distance[:, None, None])
    return 0.78 + 0.22 * depth.clip(0, 1)


def parting(coords: LipCoords, eye_distance: Array, rounding: Array | float = 0.0) -> Array:
    """Return (T, h, w) how far the lips are parted, 0 to 1: a thin gap is dark and shows no teeth.

    Lips that are rounded, by (T,) `rounding` from 0 to 1, are in front of the teeth and shade them in wider gaps.
    """
    light = (1 - _SHADED * rounding) / eye_distance
    gap = (coords.lower - coords.upper) * light[:, None, None]
    return ((gap - TOUCHING) / PARTED).clip(0, 1)


def _moist(gap: Array, unit: Array) -> Array:
    """Return the height of the visible inner side of the lower lip."""
    return 0.006 * unit + 0.08 * gap


def _smooth(value: Array) -> Array:
    value = value.clip(0, 1)
    return value * value * (3 - 2 * value)


def _lower_teeth(x: Array, y: Array, lower: Array, gap: Array, unit: Array) -> tuple[Array, Array]:
    """Return coverage and luma of the lower teeth, which move with the jaw and stand just behind the lower lip."""
    drop, light, shown = _row(x / _LOWER_SIZE)
    top = lower - 0.5 * _moist(gap, unit) - unit * (0.05 - drop).clip(min=0.0)
    shown = shown * ((y - top) / (0.02 * unit).clip(min=1.0)).clip(0, 1)
    return 0.75 * shown * ((gap / unit - 0.05) / 0.05).clip(0, 1), _LOWER_LIGHT * light


def _teeth(x: Array, y: Array, seam: Array, unit: Array) -> tuple[Array, Array]:
    """Return coverage (0 to 1) and luma of the upper teeth; x from the middle line in eye distances."""
    lift, light, shown = _row(x)
    above = seam + unit * (_TEETH_BELOW_SEAM - lift) - y  # the edge
    return shown * (above / (_RIM * unit).clip(min=0.8) + 0.5).clip(0, 1), light


def _row(x: Array) -> tuple[Array, Array, Array]:
    """Return edge lift, luma and coverage of a row of teeth at x from the middle line."""
    place = (abs(x) * (_ROW_SAMPLES / _row_end())).clip(0, _ROW_SAMPLES - 1.001)
    table, like_numpy = _row_table(), isinstance(place, np.ndarray)
    if not like_numpy:
        table = place.new_tensor(table)
    whole = np.floor(place) if like_numpy else place.floor()
    index, part = whole.astype(np.int64) if like_numpy else whole.long(), place - whole
    lift, light, shown = ((1 - part) * look_up(row, index) + part * look_up(row[1:], index) for row in table)
    return lift, light, shown


def _tooth_sides() -> NDArray[np.float64]:
    """Return (5,) boundaries of teeth along the arch, in eye distances from the middle line."""
    return np.cumsum([0.0, *_TOOTH_WIDTHS]) / _EYE_DISTANCE_MM


@cache
def _row_end() -> float:
    """Return the distance from the middle line to the end of the last tooth, seen from the front."""
    return float(_ARCH_RADIUS * np.sin(_tooth_sides()[-1] / _ARCH_RADIUS))


@cache
def _row_table() -> NDArray[np.float32]:
    """Return (3, S) edge lift, luma and coverage of a row of teeth from its middle line to its end.

    Where two teeth meet there is a thin shadow and a notch between their edges.
    """
    x = np.arange(_ROW_SAMPLES) * (_row_end() / _ROW_SAMPLES)
    sides, along = _tooth_sides(), _ARCH_RADIUS * np.arcsin(x / _ARCH_RADIUS)
    centres, half_widths = (sides[1:] + sides[:-1]) / 2, np.diff(sides) / 2
    tooth = np.searchsorted(sides, along, "right") - 1
    off = np.abs(along - centres[tooth]) / half_widths[tooth]  # 0 in the middle of a tooth, 1 at its side
    lift = _EDGE_RISE * x**2 + np.where(tooth == _SHORTER, _SHORTER_BY, 0) + 0.014 * off**4
    light = 1 - _JOINT * off**6
    shown = np.cos(along / _ARCH_RADIUS) ** _FACING_POWER * ((sides[-1] - along) / half_widths[-1]).clip(0, 1)
    return np.stack([lift, light, shown]).astype(np.float32)


_GROUP: Final = 8  # faces drawn at once: more do not fit into the CPU cache
_CLOSED: Final = 0.01  # pixels between the lips: less shows no interior


class DrawnInterior(NamedTuple):
    """The interior of one mouth, drawn in a box around the lips."""

    box: Box
    cell: int
    coords: LipCoords  # (1, h, w)
    planes: F32  # (3, h, w) Y, U, V, not yet blurred

    def within(self, box: Box) -> tuple[LipCoords, F32]:
        """Return the coordinates and planes of a part of the box."""
        part = (..., *within(box, self.box, self.cell))
        x, y, upper, lower, start, stop, half_width = self.coords
        coords = LipCoords(x[part], y[part], upper[part], lower[part], start[part], stop[part], half_width)
        return coords, self.planes[part]


def draw_interiors(chunk: FaceChunk, axes: LipAxes, own_teeth: F32) -> dict[int, DrawnInterior]:
    """Return the interiors by face; faces whose interior does not show have none. See `draw_interior`."""
    gaps = (axes.lips[:, 1] - axes.lips[:, 0]).max(1)
    shown, cell = np.flatnonzero((chunk.interior > 0) & (gaps > _CLOSED)), chunk.region_size // GRID
    drawn = {}
    for start in range(0, len(shown), _GROUP):
        faces = shown[start : start + _GROUP]
        group = LipAxes(*(part[faces] for part in axes))
        box = _around(group, chunk.region_size)
        coords = lip_coords(np, group, *grid(box.pixels(cell)))
        colours = Colours(chunk.skin[faces], chunk.lip[faces], chunk.teeth[faces])
        seam = place_in(group, chunk.seam[faces])
        planes = draw_interior(
            np, coords, chunk.eye_distance[faces], seam, colours, chunk.rounding[faces], own_teeth[faces]
        )
        for k, face in enumerate(faces):
            own = LipCoords(*(part[k : k + 1] for part in coords))
            drawn[int(face)] = DrawnInterior(box, cell, own, planes[k])
    return drawn


def _around(axes: LipAxes, size: int) -> Box:
    """Return the box around all lips, in pairs of cells."""
    pair = 2 * (size // GRID)
    near = [near_lips(*mouth, (size, size)) for mouth in zip(*axes, strict=True)]
    rows, columns = ([each[k] for each in near] for k in (0, 1))
    return Box(
        min(part.start for part in columns) // pair * 2,
        min(part.start for part in rows) // pair * 2,
        -(-max(part.stop for part in columns) // pair) * 2,
        -(-max(part.stop for part in rows) // pair) * 2,
    )
