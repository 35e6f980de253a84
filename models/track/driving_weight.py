"""How strongly the mouth is driven in each source frame, 0 to 1.

A mouth that is rewritten in one frame and left alone in the next would jump, so the effect fades out before a gap and
in after it. The ramps are defined in source time, so they work whether it is played forwards or backwards. A hard
cut hides the change and needs no ramp. While a head turns away, the effect fades out with the angle.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.geometry.arrays import smooth_step
from models.track.skip_reason import SkipReason

EASE_SECONDS: Final = 0.2

# From 0 to 1, the patch fades in first, still showing the frame's own mouth shape; then the mouth moves to the wanted
# shape. Two different mouths are blended in silence only, where the mouth is held until the patch is gone.
_PATCH_SHARE = 0.45
_MOUTH_START = 0.25


def driving_weights(
    skip_reason: NDArray[np.uint8], shot: NDArray[np.int32], fps: float, facing: NDArray[np.float32] | None = None
) -> NDArray[np.float32]:
    """Return (N,) float32: 0 in skipped frames, rising to 1 over `EASE_SECONDS` on either side within a shot.

    It is at most (N,) `facing`, 0 to 1; None: 1.
    """
    shown = skip_reason == SkipReason.NONE
    num_ramp = max(1.0, EASE_SECONDS * fps)
    distance = np.minimum(_since_gap(shown, shot), _since_gap(shown[::-1], shot[::-1])[::-1])
    weight = (distance / num_ramp).clip(0, 1).astype(np.float32)
    return weight if facing is None else np.minimum(weight, facing)


def mouth_share(weight: NDArray[np.floating]) -> NDArray[np.float32]:
    """Blend from the frame's own mouth shape (0) to the target (1)."""
    return smooth_step((np.asarray(weight, np.float32) - _MOUTH_START) / (1 - _MOUTH_START))


def patch_share(weight: NDArray[np.floating]) -> NDArray[np.float32]:
    """Opacity of the patch over the frame, 0 to 1."""
    return smooth_step(np.asarray(weight, np.float32) / _PATCH_SHARE)


def _since_gap(shown: NDArray[np.bool_], shot: NDArray[np.int32]) -> NDArray[np.float64]:
    """(N,) frames since the last skipped one of the same shot, minus one half; infinite where there is none."""
    distance = np.empty(len(shown))
    since = np.inf
    for i in range(len(shown)):
        if i and shot[i] != shot[i - 1]:
            since = np.inf
        since = since + 1 if shown[i] else 0.0
        distance[i] = max(since - 0.5, 0.0)
    return distance
