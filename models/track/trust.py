"""How far the mouth is driven in each source frame: fully, not at all, or on the way between.

A mouth that is rewritten in one frame and left alone in the next would jump. So the effect fades over the frames
before a gap and after it, and it does so in the source's own time: whatever way the source is played, forwards or
backwards, the ramp lies where it is needed. A hard cut hides the change by itself and gets no ramp.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.geometry.smooth_step import smooth_step
from models.track.pass_reason import PassReason

EASE_SECONDS: Final = 0.2

# Two things share the way from 0 to 1: first the patch comes, still with the frame's own mouth, then the mouth moves
# off. So nothing is mixed that does not lie on its like.
_PATCH_SHARE = 0.45
_MOUTH_START = 0.25


def trust_of(passed: NDArray[np.uint8], shot: NDArray[np.int32], fps: float) -> NDArray[np.float32]:
    """Returns (N,) float32: 0 in frames that pass, rising to 1 over `EASE_SECONDS` on either side within a shot.

    Args:
        passed: (N,) `PassReason` of each frame.
        shot: (N,) number of the shot.
        fps: Frames a second of the source.
    """
    shown = passed == PassReason.SHOWN
    num_ramp = max(1.0, EASE_SECONDS * fps)
    distance = np.minimum(_since_gap(shown, shot), _since_gap(shown[::-1], shot[::-1])[::-1])
    return (distance / num_ramp).clip(0, 1).astype(np.float32)


def mouth_share(trust: NDArray[np.floating]) -> NDArray[np.float32]:
    """How far the mouth goes from the frame's own shape (0) to the wanted one (1)."""
    return smooth_step((np.asarray(trust, np.float32) - _MOUTH_START) / (1 - _MOUTH_START))


def patch_share(trust: NDArray[np.floating]) -> NDArray[np.float32]:
    """Opacity of the patch over the frame, 0 to 1."""
    return smooth_step(np.asarray(trust, np.float32) / _PATCH_SHARE)


def _since_gap(shown: NDArray[np.bool_], shot: NDArray[np.int32]) -> NDArray[np.float64]:
    """(N,) frames since the last one of the same shot that passes, a half too few; infinite where there is none."""
    distance = np.empty(len(shown))
    since = np.inf
    for i in range(len(shown)):
        if i and shot[i] != shot[i - 1]:
            since = np.inf
        since = since + 1 if shown[i] else 0.0
        distance[i] = max(since - 0.5, 0.0)
    return distance
