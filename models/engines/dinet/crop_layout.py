"""What a generator of this family sees of a crop, and which part of it is made anew."""

from __future__ import annotations

from dataclasses import dataclass
from types import EllipsisType

import numpy as np
from numpy.typing import NDArray

from models.engines.box.picture import Interpolation
from models.engines.box.points68 import LOWER_FACE

# By how much the outline of the lower face grows across and along. The mask rises to 1 over 6 % of the crop inwards
# from there; a mouth that opens moves the chin by as much.
_OUTWARD = (1.15, 1.5)


@dataclass(frozen=True)
class CropLayout:
    """The picture that the crop's box is resized to.

    Attributes:
        height: Pixels.
        width: Pixels.
        rows: First and last row that are black in the masked picture.
        columns: First and last column that are.
        num_pasted: Rows from above that the published script writes back.
        interpolation: How the box is resized.
    """

    height: int
    width: int
    rows: tuple[int, int]
    columns: tuple[int, int]
    num_pasted: int
    interpolation: Interpolation

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        return self.height, self.width

    @property
    def masked(self) -> tuple[EllipsisType, slice, slice]:
        """Index of what is black in (..., height, width)."""
        return ..., slice(self.rows[0], self.rows[1] + 1), slice(self.columns[0], self.columns[1] + 1)

    def mask(self, pictures: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return (N, 3, height, width) pictures with the mouth black."""
        masked = pictures.copy()
        masked[self.masked] = 0
        return masked

    def masked_box(self, boxes: NDArray[np.floating]) -> NDArray[np.float64]:
        """Return where the black rectangle lies in (N, 4) boxes x0, y0, x1, y1, as (N, 4)."""
        low = np.array([self.columns[0] / self.width, self.rows[0] / self.height])
        high = np.array([(self.columns[1] + 1) / self.width, (self.rows[1] + 1) / self.height])
        sides = boxes[:, 2:] - boxes[:, :2]
        return np.concatenate([boxes[:, :2] + low * sides, boxes[:, :2] + high * sides], 1)

    def outline(self, boxes: NDArray[np.floating], points: NDArray[np.floating]) -> NDArray[np.float32]:
        """Return what is rewritten softly: the lower face with room for a falling chin, inside the black rectangle.

        Args:
            boxes: (N, 4) x0, y0, x1, y1.
            points: (N, 68, 2) points of iBUG, in the same pixels.

        Returns:
            (N, P, 2) float32 points whose convex hull it is.
        """
        face = np.asarray(points[:, list(LOWER_FACE)], np.float64)
        middle = (face.min(1, keepdims=True) + face.max(1, keepdims=True)) / 2
        masked = self.masked_box(boxes)
        wide = middle + (face - middle) * _OUTWARD
        return np.asarray(wide.clip(masked[:, None, :2], masked[:, None, 2:]), np.float32)


def to_planes(pictures: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Turn (N, H, W, 3) uint8 pictures into (N, 3, H, W) float32 in [0, 1]."""
    return np.ascontiguousarray(pictures.transpose(0, 3, 1, 2), np.float32) / np.float32(255)


def to_levels(planes: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Round (N, 3, H, W) float32 in [0, 1] to (N, H, W, 3) uint8."""
    return np.ascontiguousarray(np.rint(planes * np.float32(255)).clip(0, 255).transpose(0, 2, 3, 1), np.uint8)


def corners(boxes: NDArray[np.floating]) -> NDArray[np.float32]:
    """Return the (N, 4, 2) corners of (N, 4) boxes x0, y0, x1, y1."""
    return boxes[:, [[0, 1], [2, 1], [2, 3], [0, 3]]].astype(np.float32)
