"""Operations on the planes of one face for `render_cpu`: boxes, sampling, blending."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from models.geometry.thin_plate import GRID

F32 = NDArray[np.float32]
U8 = NDArray[np.uint8]
PAD: Final = 2
"""Cells added on every side, because cells may be an odd number of half pixels wide."""
_PADDED: Final = np.arange(-PAD, GRID + PAD).clip(0, GRID - 1)


class Box(NamedTuple):
    """A rectangle of cells with even edges, so that it has whole chroma pixels at every region size."""

    left: int
    top: int
    right: int
    bottom: int

    @property
    def cells(self) -> tuple[slice, slice]:
        """Return rows and columns in a plane of cells."""
        return slice(self.top, self.bottom), slice(self.left, self.right)

    def pixels(self, cell: float) -> tuple[slice, slice]:
        """Return rows and columns in a plane with cells of `cell` pixels, a multiple of one half."""
        return (
            slice(int(self.top * cell), int(self.bottom * cell)),
            slice(int(self.left * cell), int(self.right * cell)),
        )


def within(inner: Box, outer: Box, cell: float) -> tuple[slice, slice]:
    """Return rows and columns of `inner` in a plane that covers `outer`."""
    left, top = outer.left, outer.top
    return Box(inner.left - left, inner.top - top, inner.right - left, inner.bottom - top).pixels(cell)


class SharpCrop(NamedTuple):
    """The mouth box of an exemplar before the colour match: sharpened luma, 8-bit chroma."""

    y: F32
    uv: list[U8]


class ColourMatch(NamedTuple):
    """What makes an exemplar look like the frame, see `colour_match`."""

    gain: F32  # (36, 36) padded cells, of luma
    offset: F32  # (2, 36, 36) padded cells, of chroma


class Mouth(NamedTuple):
    """Content of the mouth box, 0 to 255 and slightly beyond."""

    y: F32
    uv: list[F32]


def grid(where: tuple[slice, slice]) -> tuple[F32, F32]:
    """Return the (1, 1, w) columns and (1, h, 1) rows of a box."""
    rows, columns = (np.arange(part.start, part.stop, dtype=np.float32) for part in where)
    return columns[None, None], rows[None, :, None]


class Crop(NamedTuple):
    """An 8-bit image."""

    y: U8  # (h, w)
    uv: U8  # (2, h / 2, w / 2)


def padded_cells(planes: F32) -> F32:
    """Pad (..., 32, 32) planes to (..., 36, 36) by repeating the edge cells."""
    return planes.take(_PADDED, -1).take(_PADDED, -2)


def halve(field: F32) -> F32:
    """Average 2 x 2 pixels."""
    return np.asarray(cv2.resize(field, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA), np.float32)


def linear(plane: U8, place: F32 | Sequence[F32]) -> U8:
    """Sample a plane bilinearly; beyond its edge it is 0."""
    return np.asarray(cv2.remap(plane, place[0], place[1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT), np.uint8)


def mix(mouth: Mouth, other: Mouth, weight: F32) -> Mouth:
    """Blend two mouths by a (h, w) weight."""
    half = halve(weight)
    y = mouth.y + weight * (other.y - mouth.y)
    return Mouth(y, [a + half * (b - a) for a, b in zip(mouth.uv, other.uv, strict=True)])
