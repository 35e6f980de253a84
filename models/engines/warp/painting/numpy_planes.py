"""Operations on the planes of one face for `render_numpy`: boxes, sampling, blending."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from models.engines.warp.painting.colour_match import LUMA_FLOOR
from models.geometry.thin_plate import GRID

F32 = NDArray[np.float32]
U8 = NDArray[np.uint8]
PAD: Final = 2
"""Cells added on every side, because cells may be an odd number of half pixels wide."""
EVERYWHERE: Final = ((slice(None), slice(None)),)
_BANDS = 4  # more bands cost more than they save
_PADDED: Final = np.arange(-PAD, GRID + PAD).clip(0, GRID - 1)


class Box(NamedTuple):
    """A rectangle of cells with even edges, so that it has whole chroma pixels at every region size."""

    left: int
    top: int
    right: int
    bottom: int

    def pixels(self, cell: float) -> tuple[slice, slice]:
        """Returns rows and columns in a plane with cells of `cell` pixels, a multiple of one half."""
        return (
            slice(int(self.top * cell), int(self.bottom * cell)),
            slice(int(self.left * cell), int(self.right * cell)),
        )


def within(inner: Box, outer: Box, cell: float) -> tuple[slice, slice]:
    """Returns rows and columns of `inner` in a plane that covers `outer`."""
    left, top = outer.left, outer.top
    return Box(inner.left - left, inner.top - top, inner.right - left, inner.bottom - top).pixels(cell)


class Mouth(NamedTuple):
    """Content of the mouth box, 0 to 255 and slightly beyond, as a cubic kernel overshoots."""

    y: F32
    uv: list[F32]


def grid(where: tuple[slice, slice]) -> tuple[F32, F32]:
    """Returns the (1, 1, w) columns and (1, h, 1) rows of a box."""
    rows, columns = (np.arange(part.start, part.stop, dtype=np.float32) for part in where)
    return columns[None, None], rows[None, :, None]


class Crop(NamedTuple):
    """An 8-bit image: (h, w) luma, and two chroma planes of (h / 2, w / 2)."""

    y: U8
    uv: Sequence[U8]


def padded_cells(planes: F32) -> F32:
    """Pads (..., 32, 32) planes to (..., 36, 36) by repeating the edge cells."""
    return planes.take(_PADDED, -1).take(_PADDED, -2)


def rounded(mouth: Mouth) -> Crop:
    """Rounds to 8 bits."""
    planes = (cv2.addWeighted(plane, 1, plane, 0, 0, dtype=cv2.CV_8U) for plane in (mouth.y, *mouth.uv))
    y, *uv = (np.asarray(plane, np.uint8) for plane in planes)
    return Crop(y, uv)


def sharpen(luma: U8, amount: float) -> F32:
    """Applies unsharp masking with a 3 x 3 blur."""
    soft = cv2.boxFilter(luma, cv2.CV_32F, (3, 3), borderType=cv2.BORDER_REPLICATE)
    return np.asarray(cv2.addWeighted(luma.astype(np.float32), 1 + amount, soft, -amount, 0), np.float32)


def recolour(mouth: Mouth, colour: Mouth) -> Mouth:
    """Applies a colour match to a mouth in place: `colour` holds the luma gain and the chroma offsets."""
    y = mouth.y
    y += np.float32(LUMA_FLOOR)
    y *= colour.y
    y -= np.float32(LUMA_FLOOR)
    for plane, offset in zip(mouth.uv, colour.uv, strict=True):
        plane += offset
    return mouth


def halve_positions(place: list[F32]) -> list[F32]:
    """Converts luma positions to chroma positions, using the top left luma pixel of each.

    A mean of the four would lie between the layers along the lip line.
    """
    return [axis[::2, ::2] * np.float32(0.5) for axis in place]


def halve(field: F32) -> F32:
    """Averages 2 x 2 pixels."""
    return np.asarray(cv2.resize(field, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA), np.float32)


def double(plane: NDArray[Any]) -> NDArray[Any]:
    """Doubles the size bilinearly."""
    return cv2.resize(plane, None, fx=2, fy=2, interpolation=cv2.INTER_LINEAR)


def spans(mask: U8, cell: int) -> list[tuple[slice, slice]]:
    """Returns rows and columns of a plane that cover a mask, per band of rows: whole cells plus one pixel of margin.

    The mask has half the size of the plane; its sides are multiples of `cell`, the size of two cells in its pixels.
    """
    height, width = mask.shape[0] // cell, mask.shape[1]
    step, found = cell * -(-height // _BANDS), []
    for top in range(0, mask.shape[0], step):
        left, _, across, _ = cv2.boundingRect(mask[top : top + step])
        if across:
            edges = (left // cell * cell, min(-(-(left + across) // cell) * cell, width))
            rows, columns = ((2 * first, 2 * last) for first, last in ((top, top + step), edges))
            found.append((slice(max(rows[0] - 1, 0), rows[1] + 1), slice(max(columns[0] - 1, 0), columns[1] + 1)))
    return found


def cubic(plane: U8, place: list[F32], where: Sequence[tuple[slice, slice]]) -> U8:
    """Samples a plane bicubically at positions x, y in the areas `where` (see `spans`), 0 elsewhere."""
    read = np.zeros(place[0].shape, np.uint8)
    for part in where:
        columns, rows = (axis[part] for axis in place)
        cv2.remap(plane, columns, rows, cv2.INTER_CUBIC, dst=read[part], borderMode=cv2.BORDER_REPLICATE)
    return read


def linear(plane: U8, place: list[F32], outside: int | None = None) -> U8:
    """Samples a plane bilinearly; beyond its edge it is `outside`, or repeats the edge."""
    border = cv2.BORDER_REPLICATE if outside is None else cv2.BORDER_CONSTANT
    return np.asarray(cv2.remap(plane, place[0], place[1], cv2.INTER_LINEAR, borderMode=border), np.uint8)


def lay_over(planes: Sequence[U8], wanted: Sequence[U8], weight: F32) -> None:
    """Blends images into the views `planes` by weights from 0 to 1."""
    rest = 1 - weight
    for below, above in zip(planes, wanted, strict=True):
        cv2.blendLinear(above, below, weight, rest, dst=below)


def mix(mouth: Mouth, other: Mouth, weight: F32) -> Mouth:
    """Blends two mouths by a (h, w) weight."""
    half = halve(weight)
    y = mouth.y + weight * (other.y - mouth.y)
    return Mouth(y, [a + half * (b - a) for a, b in zip(mouth.uv, other.uv, strict=True)])
