"""Mouth coordinates in the image: along the mouth from corner to corner, and across it."""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from media.yuv_frame import YuvFrame
from models.geometry.face_points import CORNER_LEFT, CORNER_RIGHT

F64 = NDArray[np.float64]


class MouthAxes(NamedTuple):
    """Mouth axes in F frames. The unit is the mouth width, from outer corner to outer corner."""

    origin: F64  # (F, 2) half-way between the outer corners
    along: F64  # (F, 2) pixels from the left outer corner to the right one
    across: F64  # (F, 2) as long, downwards

    @classmethod
    def of(cls, points: NDArray[np.floating]) -> MouthAxes:
        """Return the axes of (F, 468, 2 or more) landmarks in pixels."""
        flat = np.asarray(points[..., :2], np.float64)
        first, last = flat[:, CORNER_LEFT], flat[:, CORNER_RIGHT]
        along = last - first
        along = along / np.linalg.norm(along, axis=1, keepdims=True).clip(1e-6)
        length = np.linalg.norm(last - first, axis=1, keepdims=True).clip(1.0)
        return cls((first + last) / 2, along * length, np.stack([-along[:, 1], along[:, 0]], 1) * length)

    def to_mouth(self, points: NDArray[np.floating]) -> F64:
        """Convert (F, P, 2) pixels to mouth widths along and across the mouth."""
        offset = points - self.origin[:, None]
        squared = (self.along**2).sum(1)[:, None, None].clip(1e-6)
        return np.asarray(offset @ np.stack([self.along, self.across], -1) / squared, np.float64)

    def to_image(self, local: F64) -> F64:
        """Convert (F, P, 2) mouth widths back to pixels."""
        return np.asarray(local @ np.stack([self.along, self.across], 1) + self.origin[:, None], np.float64)


def line_heights(axes: MouthAxes, points: NDArray[np.floating], ids: tuple[int, ...], columns: F64) -> F64:
    """Return (F, C) heights, at columns of the mouth, of the line of landmarks `ids` (ordered from left to right)."""
    local = axes.to_mouth(np.asarray(points[:, list(ids), :2], np.float64))
    return np.stack([np.interp(columns, np.maximum.accumulate(line[:, 0]), line[:, 1]) for line in local])


def sample(planes: YuvFrame, places: F64) -> F64:
    """Sample Y, U, V at (R, C, 2) pixel positions; return (R, C, 3)."""
    channels = []
    for plane, scale in zip(planes, (1.0, 0.5, 0.5), strict=True):
        place = ((places + 0.5) * scale - 0.5).astype(np.float32)
        picture = np.ascontiguousarray(plane, np.float32)
        x, y = np.ascontiguousarray(place[..., 0]), np.ascontiguousarray(place[..., 1])
        channels.append(cv2.remap(picture, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE))
    return np.asarray(np.stack(channels, -1), np.float64)
