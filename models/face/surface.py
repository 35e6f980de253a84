"""Frontal views of a face, sampled on grids on the surface of the mean face.

Grid points stay on the same skin when the head turns, as far as that skin is visible.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from models.geometry.head_frame import HeadPose, mean_face

_SMOOTHNESS = 0.04  # eye distances: smooths the edges of the mesh


class Window(NamedTuple):
    """A rectangle of the head frame in eye distances, with a grid of columns and rows of points."""

    left: float
    right: float
    top: float
    bottom: float
    columns: int
    rows: int


@dataclass(frozen=True)
class Surface:
    """A grid of points on the mean face."""

    points: NDArray[np.float64]  # (rows, columns, 3) in the head frame
    normals: NDArray[np.float64]  # (rows, columns, 3) of length 1, pointing outwards
    step: float  # spacing of the points along x

    def sample(self, plane: NDArray[np.uint8], pose: HeadPose) -> NDArray[np.float32]:
        """Sample a luma plane at the points, (rows, columns) float32."""
        place = pose.to_image(self.points.reshape(1, -1, 3))[0, :, :2].reshape(*self.points.shape[:2], 2)
        return sample_plane(plane, place, float(pose.scale[0]) * self.step)


def sample_plane(
    plane: NDArray[np.uint8], place: NDArray[np.floating], cell: float, shrink: int = 1
) -> NDArray[np.float32]:
    """Sample one plane of a picture, averaged over square cells so that fine detail does not alias.

    Args:
        plane: (H, W) uint8.
        place: (..., 2) x, y in pixels of the luma plane; places outside the picture repeat its edge.
        cell: Side of a cell in pixels of the luma plane.
        shrink: 2 for chroma planes of half size, else 1.

    Returns:
        (...) float32 the plane at the places.
    """
    place = (place + 0.5) / shrink - 0.5
    height, width = plane.shape
    factor = min(max(1, round(cell / shrink)), width, height)
    flat = place.reshape(-1, 2)
    low = np.floor(flat.min(0)).astype(int).clip(0, [width - factor, height - factor])
    high = (np.ceil(flat.max(0)).astype(int) + factor).clip(low + factor, [width, height])
    block = plane[low[1] : high[1], low[0] : high[0]]
    columns, rows = block.shape[1] // factor, block.shape[0] // factor
    small = cv2.resize(block[: rows * factor, : columns * factor], (columns, rows), interpolation=cv2.INTER_AREA)
    at = ((place - low - (factor - 1) / 2) / factor).astype(np.float32)
    at = at.reshape(-1, at.shape[-2], 2)
    sampled = cv2.remap(
        small.astype(np.float32), at[..., 0], at[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    return np.asarray(sampled.reshape(place.shape[:-1]), np.float32)


@cache
def surface(window: Window) -> Surface:
    """Return the surface in a window, row by row from the top left."""
    from scipy.interpolate import griddata  # takes a second to import: only load it when needed

    face = mean_face()
    x, y = np.meshgrid(
        np.linspace(window.left, window.right, window.columns), np.linspace(window.top, window.bottom, window.rows)
    )
    inside = griddata(face[:, :2], face[:, 2], (x, y), "linear")
    beside = griddata(face[:, :2], face[:, 2], (x, y), "nearest")
    step = (window.right - window.left) / (window.columns - 1)
    depth = cv2.GaussianBlur(np.where(np.isnan(inside), beside, inside), (0, 0), _SMOOTHNESS / step)
    slope_y, slope_x = np.gradient(depth, y[:, 0], x[0])
    normals = np.stack([-slope_x, -slope_y, np.ones_like(depth)], -1)
    return Surface(np.stack([x, y, depth], -1), normals / np.linalg.norm(normals, axis=-1, keepdims=True), step)
