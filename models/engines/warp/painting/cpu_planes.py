"""Operations on the planes of one face on the CPU: boxes, reading, mixing. Used by `cpu`."""

from __future__ import annotations

from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from models.engines.warp.painting.match import LUMA_FLOOR

F32 = NDArray[np.float32]
U8 = NDArray[np.uint8]


class Box(NamedTuple):
    """A rectangle of cells, edges even, so that it has whole chroma pixels in every region size."""

    left: int
    top: int
    right: int
    bottom: int

    def pixels(self, cell: float) -> tuple[slice, slice]:
        """Rows and columns of a plane whose cells are `cell` pixels wide."""
        return (
            slice(round(self.top * cell), round(self.bottom * cell)),
            slice(round(self.left * cell), round(self.right * cell)),
        )


def within(inner: Box, outer: Box, cell: float) -> tuple[slice, slice]:
    """Rows and columns of `inner` in a plane that covers `outer`."""
    left, top = outer.left, outer.top
    return Box(inner.left - left, inner.top - top, inner.right - left, inner.bottom - top).pixels(cell)


class Mouth(NamedTuple):
    """What shall stand in the mouth box, 0 to 255 and a little beyond, as a cubic kernel overshoots."""

    y: F32
    uv: list[F32]


def grid(where: tuple[slice, slice]) -> tuple[F32, F32]:
    """(1, 1, w) columns and (1, h, 1) rows of a box."""
    rows, columns = (np.arange(part.start, part.stop, dtype=np.float32) for part in where)
    return columns[None, None], rows[None, :, None]


def recolour(mouth: Mouth, colour: list[F32]) -> Mouth:
    """Brings a mouth to the frame's colours."""
    gain, *offsets = colour
    y = (mouth.y + np.float32(LUMA_FLOOR)) * gain - np.float32(LUMA_FLOOR)
    return Mouth(y, [plane + halve(shift) for plane, shift in zip(mouth.uv, offsets, strict=True)])


def halve_positions(place: list[F32]) -> list[F32]:
    """Luma positions to chroma positions, each that of its upper left luma pixel.

    A mean over the four would lie between the layers along the seam of the lips.
    """
    return [axis[::2, ::2] * np.float32(0.5) for axis in place]


def halve(field: F32) -> F32:
    """Means of 2 x 2 pixels."""
    return np.asarray(cv2.resize(field, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA), np.float32)


def double(plane: NDArray[Any]) -> NDArray[Any]:
    """Twice the size, bilinearly."""
    return cv2.resize(plane, None, fx=2, fy=2, interpolation=cv2.INTER_LINEAR)


def cubic(plane: U8, place: list[F32]) -> F32:
    """Reads a plane at positions x, y."""
    return _remap(plane, place, cv2.INTER_CUBIC)


def linear(plane: U8, place: list[F32]) -> F32:
    """The same, bilinearly."""
    return _remap(plane, place, cv2.INTER_LINEAR)


def _remap(plane: U8, place: list[F32], interpolation: int) -> F32:
    """Whole numbers as float32, which OpenCV reads faster than 8 bits."""
    read = cv2.remap(plane.astype(np.float32), place[0], place[1], interpolation, borderMode=cv2.BORDER_REPLICATE)
    return np.rint(read, out=np.asarray(read, np.float32))


def lay_over(plane: U8, wanted: NDArray[Any], weight: NDArray[Any]) -> None:
    """Mixes `wanted` into the view `plane` by weights from 0 to 1."""
    mixed = wanted - plane
    mixed *= weight
    mixed += plane
    np.rint(mixed, out=mixed)
    np.clip(mixed, 0, 255, out=mixed)
    plane[:] = mixed


def mix(mouth: Mouth, other: Mouth, weight: F32) -> Mouth:
    """Mixes two mouths by a (h, w) weight."""
    half = halve(weight)
    y = mouth.y + weight * (other.y - mouth.y)
    return Mouth(y, [a + half * (b - a) for a, b in zip(mouth.uv, other.uv, strict=True)])
