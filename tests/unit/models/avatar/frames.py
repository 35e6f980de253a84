"""Frames of a moving still, and stills with spots, for tests."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lipwright.media.yuv_frame import YuvFrame
from models.avatar.still_frame import StillFrames
from tests.unit.models.still import Still


def frame_of(pitch: float = 0.0, yaw: float = 0.0, roll: float = 0.0, **others: ArrayLike) -> NDArray[np.int64]:
    """Returns the (1,) number of a frame; angles are in degrees, the others are those of `StillFrames`."""
    values = {name: np.zeros(1) for name in ("closing", "brows", "inner_brows", "breath", "smile")}
    values |= {"gaze": np.zeros((1, 2)), **{name: np.array([value]) for name, value in others.items()}}
    return StillFrames(np.radians([[pitch, yaw, roll]]), **values).index()


def shown(**values: float) -> StillFrames:
    """Returns what the frame shows, as it is drawn."""
    return StillFrames.of(frame_of(**values))


def with_spots(still: Still, places: NDArray[np.floating]) -> YuvFrame:
    """The picture with its luma replaced by soft spots."""
    rows, columns = np.indices(still.planes.y.shape)
    luma = sum(200 * np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / 18) for x, y in places)
    return still.planes._replace(y=np.asarray(luma).clip(0, 255).astype(np.uint8))
