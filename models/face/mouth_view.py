"""A small picture of the mouth and what surrounds it, that the head's motion does not move."""

from __future__ import annotations

from functools import cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from media.yuv_frame import YuvFrame
from models.face.surface import Surface, Window, surface
from models.geometry.face_points import CHIN_TIP, NOSE_BASE
from models.geometry.head_frame import fit_head_pose, mean_face

WIDTH: Final = 32
HEIGHT: Final = 24
NUM_LUMA: Final = WIDTH * HEIGHT
VIEW_SIZE: Final = NUM_LUMA * 3 // 2

# From under the nose to the chin's edge, a cheek's width to either side; eye distances.
_LEFT, _RIGHT = -0.48, 0.48
_BELOW_NOSE, _ABOVE_CHIN_EDGE = 0.02, 0.03


def view_of(frame: YuvFrame, points: NDArray[np.floating]) -> NDArray[np.uint8]:
    """Returns (1152,) uint8: the mouth as 32 x 24 luma and twice 16 x 12 chroma pixels.

    Args:
        frame: The picture.
        points: (468, 3) its landmarks in pixels.
    """
    pose = fit_head_pose(np.asarray(points)[None])
    luma = view_surface(WIDTH, HEIGHT).sample(frame.y, pose)
    chroma = [view_surface(WIDTH // 2, HEIGHT // 2).sample(plane, pose, 2) for plane in (frame.u, frame.v)]
    view = np.concatenate([luma.ravel(), *(plane.ravel() for plane in chroma)])
    return np.asarray(np.rint(view), np.uint8)


@cache
def view_surface(columns: int, rows: int) -> Surface:
    """The skin that a view shows, in so many points; their cells fill the window."""
    face = mean_face()
    top, bottom = float(face[NOSE_BASE, 1]) - _BELOW_NOSE, float(face[CHIN_TIP, 1]) + _ABOVE_CHIN_EDGE
    across, down = (_RIGHT - _LEFT) / columns / 2, (top - bottom) / rows / 2
    return surface(Window(_LEFT + across, _RIGHT - across, top - down, bottom + down, columns, rows))
