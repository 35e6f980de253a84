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
        """Rows and columns of a plane whose cells are `cell` pixels wide, in steps of a half."""
        return (
            slice(int(self.top * cell), int(self.bottom * cell)),
            slice(int(self.left * cell), int(self.right * cell)),
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


class Crop(NamedTuple):
    """Planes to read from: whole numbers as float32, which OpenCV reads three times as fast as 8 bits."""

    y: F32
    uv: list[F32]

    @classmethod
    def of(cls, y: U8, uv: U8) -> Crop:
        """Takes over (R, R) and (2, R / 2, R / 2) planes."""
        return cls(y.astype(np.float32), [plane.astype(np.float32) for plane in uv])


def recolour(mouth: Mouth, colour: Mouth) -> Mouth:
    """Brings a mouth, in place, to the frame's colours: `colour` holds a gain for luma, offsets for chroma."""
    y = mouth.y
    y += np.float32(LUMA_FLOOR)
    y *= colour.y
    y -= np.float32(LUMA_FLOOR)
    for plane, offset in zip(mouth.uv, colour.uv, strict=True):
        plane += offset
    return mouth


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


def cubic(plane: F32, place: list[F32]) -> F32:
    """Reads a plane at positions x, y; whole numbers."""
    return _remap(plane, place, cv2.INTER_CUBIC)


def linear(plane: F32, place: list[F32], outside: int | None = None) -> F32:
    """The same, bilinearly; beyond its edge the plane is `outside`, or goes on as at the edge."""
    border = cv2.BORDER_REPLICATE if outside is None else cv2.BORDER_CONSTANT
    return _remap(plane, place, cv2.INTER_LINEAR, border)


def _remap(plane: F32, place: list[F32], interpolation: int, border: int = cv2.BORDER_REPLICATE) -> F32:
    read = cv2.remap(plane, place[0], place[1], interpolation, borderMode=border)
    return np.rint(read, out=np.asarray(read, np.float32))


def lay_over(plane: U8, wanted: F32, weight: F32) -> None:
    """Mixes `wanted` into the view `plane` by weights from 0 to 1."""
    below = plane.astype(np.float32)
    mixed = np.subtract(wanted, below)
    mixed *= weight
    cv2.add(mixed, below, dst=plane, dtype=cv2.CV_8U)  # rounds, and keeps to 0 to 255


def mix(mouth: Mouth, other: Mouth, weight: F32) -> Mouth:
    """Mixes two mouths by a (h, w) weight."""
    half = halve(weight)
    y = mouth.y + weight * (other.y - mouth.y)
    return Mouth(y, [a + half * (b - a) for a, b in zip(mouth.uv, other.uv, strict=True)])
