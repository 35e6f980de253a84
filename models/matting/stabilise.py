"""Keeps a coarse matte from flickering: where the picture does not change, the matte changes slowly."""

from __future__ import annotations

from typing import Final, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from media.yuv_frame import YuvFrame
from models.track.shots import SceneHistory

_MEMORY: Final = 0.88  # weight of the past where the picture does not change
# Differences of luma, averaged over 5 x 5 cells, at which the past counts .6 as much: sensor noise is below 1.
_CHANGE_LEVELS: Final = 3.5


class MatteHistory(NamedTuple):
    """What the matte of the next frame depends on."""

    coarse: NDArray[np.float32]  # (h, w) the last stabilised matte, 0 to 1
    luma: NDArray[np.float32]  # (h, w) luma of the last frame
    scenes: SceneHistory


def stabilised(frame: YuvFrame, coarse: NDArray[np.float32], last: MatteHistory | None) -> MatteHistory:
    """Return the history with the next frame, whose coarse matte is (h, w); a cut begins it again."""
    size = coarse.shape[1], coarse.shape[0]
    luma = cv2.resize(frame.y, size, interpolation=cv2.INTER_AREA).astype(np.float32)
    scenes = SceneHistory.seen(frame, None if last is None else last.scenes)
    if last is None or scenes.is_cut:
        return MatteHistory(coarse, luma, scenes)
    change = cv2.blur(cv2.absdiff(luma, last.luma), (5, 5)) / _CHANGE_LEVELS
    weight = _MEMORY * np.exp(-0.5 * change * change)
    return MatteHistory(np.asarray(coarse + weight * (last.coarse - coarse), np.float32), luma, scenes)
