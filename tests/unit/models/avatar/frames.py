"""Frames of a moving still for tests."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from models.avatar.still_frame import StillFrames


def frame_of(
    pitch: float = 0.0,
    yaw: float = 0.0,
    roll: float = 0.0,
    closing: float = 0.0,
    gaze: tuple[float, float] = (0.0, 0.0),
    brows: float = 0.0,
    breath: float = 0.0,
    smile: float = 0.0,
) -> NDArray[np.int64]:
    """Returns the (1,) number of a frame; angles are in degrees."""
    values = (np.array([value]) for value in (closing, gaze, brows, breath, smile))
    return StillFrames(np.radians([[pitch, yaw, roll]]), *values).index()


def shown(**values: float) -> StillFrames:
    """Returns what the frame shows, as it is drawn."""
    return StillFrames.of(frame_of(**values))  # type: ignore[arg-type]
