"""Tracks of heads that are where they are put."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from models.geometry.head_frame import HeadPose, mean_face
from models.track.face_track import FaceTrack, finish_track
from models.track.raw_landmarks import SkipReason

WIDTH, HEIGHT = 192, 160


def track_at(x: NDArray[np.float64], y: float, eyes: float = 50.0, fps: float = 25.0) -> FaceTrack:
    """A track of a head at (N,) x and one y, in pixels, that is seen in all frames."""
    num = len(x)
    place = np.stack([x, np.full(num, y), np.zeros(num)], 1)
    rotation = np.repeat(np.diag([1.0, -1.0, -1.0])[None], num, 0)
    points = HeadPose(np.full(num, eyes), rotation, place).same_to_image(mean_face()).astype(np.float32)
    return finish_track(
        points,
        present=np.ones(num, bool),
        shot=np.zeros(num, np.int32),
        skip_reason=np.full(num, SkipReason.NONE, np.uint8),
        visible=np.ones(num, bool),
        facing=np.ones(num, np.float32),
        fps=fps,
    )
