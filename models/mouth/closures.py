"""Known closures of the lips: a voice that tells when it says /m/, /b/ and /p/ leaves nothing to predict."""

from __future__ import annotations

from bisect import bisect_left
from fractions import Fraction
from typing import Final

import numpy as np
from numpy.typing import NDArray

from lipwright.media.phones import MAX_CLOSURE_SECONDS, Closures
from models.geometry.arrays import smooth_step
from models.mouth.shape import CHANNELS

# Lips close this long after the start of a closure and until this long before its end; they approach and part in this
# time. At closures that the speech-to-mouth network predicts by itself, its lips move alike (six synthetic voices).
_INSIDE_SECONDS, _FADE_SECONDS = 0.015, 0.08
_NEAR_SECONDS: Final = 0.2  # more than that and half a frame
# Closing the lips raises the lower lip. These channels change together: open_in + open_out = 2 (upper + lower).
_CLOSING = [CHANNELS.index(name) for name in ("open_in", "open_out", "lower")]


def close_lips(shape: NDArray[np.float32], distance: NDArray[np.float32]) -> None:
    """Move the lips of (T, 8) mouth shapes together in place, by (T, 1) eye distances."""
    shape[:, _CLOSING] -= distance


def closures_near(closures: Closures, start: float, stop: float) -> Closures:
    """Return the closures, in order, that may affect frames from `start` to `stop` seconds."""
    first = bisect_left(closures, (start - _NEAR_SECONDS - MAX_CLOSURE_SECONDS,))
    return closures[first : bisect_left(closures, (stop + _NEAR_SECONDS,))]


def closed_share(closures: Closures, seconds: NDArray[np.float64], fps: Fraction) -> NDArray[np.float32] | None:
    """Return how far lips are closed in T frames at these `seconds`, (T,) from 0 to 1; None without closures.

    They are closed in at least one frame of each closure.
    """
    if not closures:
        return None
    starts, ends = np.array(closures, np.float64).T[..., None]
    half = np.maximum((ends - starts) / 2 - _INSIDE_SECONDS, 0.5 / float(fps))
    distance = (np.abs(seconds - (starts + ends) / 2) - half).min(0)
    return (1 - smooth_step(distance / _FADE_SECONDS)).astype(np.float32)
