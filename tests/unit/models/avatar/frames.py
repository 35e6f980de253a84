"""Frames of a moving still, and stills with spots, for tests."""

import numpy as np
from numpy.typing import NDArray

from media.yuv_frame import YuvFrame
from models.avatar.still_frame import StillFrames
from tests.unit.models.still import Still


def frame_of(
    pitch: float = 0.0,
    yaw: float = 0.0,
    roll: float = 0.0,
    closing: float = 0.0,
    gaze: tuple[float, float] = (0.0, 0.0),
    brows: float = 0.0,
    inner_brows: float = 0.0,
    breath: float = 0.0,
    smile: float = 0.0,
) -> NDArray[np.int64]:
    """Returns the (1,) number of a frame; angles are in degrees."""
    values = (np.array([value]) for value in (closing, gaze, brows, inner_brows, breath, smile))
    return StillFrames(np.radians([[pitch, yaw, roll]]), *values).index()


def shown(**values: float) -> StillFrames:
    """Returns what the frame shows, as it is drawn."""
    return StillFrames.of(frame_of(**values))  # type: ignore[arg-type]


def with_spots(still: Still, places: NDArray[np.floating]) -> YuvFrame:
    """The picture with its luma replaced by soft spots."""
    rows, columns = np.indices(still.planes.y.shape)
    luma = sum(200 * np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / 18) for x, y in places)
    return still.planes._replace(y=np.asarray(luma).clip(0, 255).astype(np.uint8))
