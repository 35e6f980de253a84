"""Finds the line along which the lips of a closed mouth meet, in coordinates along and across the mouth.

Landmarks place that line up to .020 mouth widths off (15 closed mouths; median .011). A mouth opened along the wrong
line opens inside a lip, and the true line stays visible beside the opening.
In the image the true line is a dark valley between two lighter lips. Dynamic programming finds the smooth line from
corner to corner along the deepest valley; where the image shows none it stays near the landmarks. On those mouths the
result is within .01 mouth widths of the darkest line; the costs were chosen by eye on the same mouths.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from lipwright.media.yuv_frame import YuvFrame
from models.geometry.head_frame import (
    CORNER_LEFT,
    CORNER_RIGHT,
    INNER_LOWER,
    INNER_UPPER,
    MIDDLE_LOWER,
    MIDDLE_UPPER,
    OUTER_LOWER,
    OUTER_UPPER,
)

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


# Lengths are in mouth widths.
_STEP = 1 / 96
_CORNER = 0.48  # where the opening ends: landmarks put it at .45 in any mouth, which makes openings look too narrow
_REACH = 0.12  # search range above and below the landmarks' line
_VALLEY = 0.05  # largest distance from the bottom of the valley to full lip brightness
_FAR_COST = 5.0  # per column and squared distance from the landmarks' line, relative to lip brightness
_SLOPE_COST, _MAX_SLOPE = 0.02, 2  # cost per step between neighbouring columns, and the largest step
_SMOOTH = 3.0  # columns: sigma of the smoothing of the line


def seam_shifts(pictures: Sequence[YuvFrame], points: NDArray[np.floating]) -> NDArray[np.float32]:
    """Measure how far the lips of a closed mouth lie from their landmarks.

    Args:
        pictures: F frames with a closed mouth.
        points: (F, 468, 2 or 3) their landmarks in pixels.

    Returns:
        (2, 11, 2) shifts of `INNER_UPPER` and `INNER_LOWER` along and across the mouth, in mouth widths, that put both
        on the line where the lips meet; see `move_inner_lips`.
    """
    axes = MouthAxes.of(points)
    columns = np.arange(-_CORNER, _CORNER + 1e-6, _STEP)
    beside = np.arange(-_REACH, _REACH + 1e-6, _STEP)
    middle = np.mean([line_heights(axes, points, ids, columns) for ids in (INNER_UPPER, INNER_LOWER)], axis=0)  # (F, C)
    seen = []
    for k, planes in enumerate(pictures):
        local = np.stack(np.broadcast_arrays(columns, middle[k] + beside[:, None]), -1)
        own = MouthAxes(*(axis[k : k + 1] for axis in axes))
        places = own.to_image(local.reshape(1, -1, 2)).reshape(local.shape)
        seen.append(sample(planes, places)[..., 0])
    luma = np.median(seen, axis=0)  # ignores a hand or an open mouth in one of the frames
    off = beside[_cheapest_line(_FAR_COST * beside[:, None] ** 2 - _valley(luma))]
    off = cv2.GaussianBlur(off[None], (0, 0), _SMOOTH, borderType=cv2.BORDER_REPLICATE)[0]
    line = np.median(middle, axis=0) + off
    lips = np.stack([np.median(axes.to_mouth(points[:, list(ids), :2]), 0) for ids in (INNER_UPPER, INNER_LOWER)])
    found_along = lips[..., 0].mean(0)
    along = np.interp(found_along, found_along[[0, -1]], [-_CORNER, _CORNER])  # (11,)
    met = np.stack([along, np.interp(along, columns, line)], -1)
    return np.asarray(met - lips, np.float32)


def move_inner_lips(points: NDArray[np.floating], shifts: NDArray[np.floating]) -> NDArray[np.float32]:
    """Return (N, 468, 3) landmarks with the inner lips moved by the shifts of `seam_shifts`.

    The middle lines of the lips move in proportion to their position between the outer and the inner edge.
    """
    moved = np.array(points, np.float32)
    flat = np.asarray(points[..., :2], np.float64)
    axes = MouthAxes.of(flat)
    for shift, inner, middle, outer in zip(
        shifts, (INNER_UPPER, INNER_LOWER), (MIDDLE_UPPER, MIDDLE_LOWER), (OUTER_UPPER, OUTER_LOWER), strict=True
    ):
        step = axes.to_image(np.broadcast_to(shift, (len(flat), *shift.shape))) - axes.origin[:, None]
        rim, core, edge = (flat[:, list(ids)] for ids in (outer, middle, inner))
        height = np.linalg.norm(edge - rim, axis=-1, keepdims=True).clip(1e-6)
        share = (np.linalg.norm(core - rim, axis=-1, keepdims=True) / height).clip(0, 1)
        moved[:, list(inner), :2] = edge + step
        moved[:, list(middle), :2] = core + share * step
    return moved


def _valley(luma: F64) -> F64:
    """(R, C) depth of each place below the lighter surroundings above and below it, relative to lip brightness."""
    soft = cv2.GaussianBlur(luma, (0, 0), sigmaX=1.5, sigmaY=1.0, borderType=cv2.BORDER_REPLICATE)
    upright = np.ones((2 * round(_VALLEY / _STEP) + 1, 1), np.uint8)
    depth = cv2.morphologyEx(soft, cv2.MORPH_BLACKHAT, upright, borderType=cv2.BORDER_REPLICATE)
    return np.asarray(depth / max(float(np.median(luma)), 1.0))


def _cheapest_line(cost: F64) -> NDArray[np.intp]:
    """(C,) rows of the cheapest line through (R, C) costs."""
    steps = np.arange(-_MAX_SLOPE, _MAX_SLOPE + 1)
    total, ways_back = cost[:, 0], []
    for column in cost.T[1:]:
        padded = np.pad(total, _MAX_SLOPE, constant_values=np.inf)
        ways = np.stack([padded[_MAX_SLOPE - step :][: len(total)] + _SLOPE_COST * abs(step) for step in steps])
        best = ways.argmin(0)
        ways_back.append(steps[best])
        total = ways.min(0) + column
    line = [int(total.argmin())]
    for back in reversed(ways_back):
        line.append(line[-1] - int(back[line[-1]]))
    return np.array(line[::-1], np.intp)
