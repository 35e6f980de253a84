"""Finished faces on their way back: plain NumPy, so that an object store passes it on without copies."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lipwright.media.yuv_frame import Patch, YuvFrame
from models.mouth.motion import RunningStats


@dataclass(frozen=True)
class FacePatches:
    """Finished regions for T frames; outside the masks every pixel is that of the frame."""

    row: NDArray[np.int32]  # (T,) which of the N patches belongs to the frame, -1 for none
    origins: NDArray[np.int32]  # (N, 2) x, y in the frame
    y: NDArray[np.uint8]  # (N, R, R)
    uv: NDArray[np.uint8]  # (N, 2, R / 2, R / 2)
    # How far the mouths move where there is no speech, as the engine measured it on these pixels
    silent_motion: RunningStats = RunningStats()

    def __len__(self) -> int:
        return len(self.row)

    def patch(self, index: int) -> Patch | None:
        """Return the patch of frame `index`, or None for a frame without a face."""
        row = int(self.row[index])
        if row < 0:
            return None
        x, y = (int(value) for value in self.origins[row])
        return Patch(x, y, YuvFrame(self.y[row], self.uv[row, 0], self.uv[row, 1]))
