"""Draws several mouth interiors of a chunk at once for `render_cpu`: for one face, call overhead dominates."""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np

from models.engines.warp.chunk import FaceChunk
from models.engines.warp.painting.interior import Colours, draw_interior
from models.engines.warp.painting.lip_coordinates import LipAxes, LipCoords, lip_coords, place_in
from models.engines.warp.painting.lips import near_lips
from models.engines.warp.painting.planes import F32, Box, grid, within
from models.geometry.thin_plate import GRID

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


def draw_interiors(chunk: FaceChunk, axes: LipAxes) -> dict[int, DrawnInterior]:
    """Return the interiors by face; faces whose interior does not show have none."""
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
        planes = draw_interior(np, coords, chunk.eye_distance[faces], seam, colours, chunk.rounding[faces])
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
