"""The type of arrays of NumPy and PyTorch alike, the smoothstep function, and samples of a plane."""

from __future__ import annotations

from typing import Any, TypeAlias, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = Any
"""A NumPy array or a PyTorch tensor. `Any`, because the type information of the two libraries has no common base."""


ScalarT = TypeVar("ScalarT", np.uint8, np.float32)


def smooth_step(value: NDArray[np.floating] | float) -> NDArray[Any]:
    """Clamp to [0, 1] and interpolate with the cubic 3x^2 - 2x^3, which has zero slope at both ends."""
    share = np.clip(value, 0.0, 1.0)
    return np.asarray(share * share * (3 - 2 * share))


def sample_plane(
    plane: NDArray[np.uint8] | NDArray[np.float32], places: NDArray[np.floating], how: int = cv2.INTER_LINEAR
) -> NDArray[np.float32]:
    """Return (...) samples at (..., 2) places x, y in pixels of a plane, whose border is repeated outside."""
    x, y = (np.ascontiguousarray(places[..., axis], np.float32) for axis in range(2))
    sampled = cv2.remap(plane, x, y, how, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(sampled, np.float32).reshape(places.shape[:-1])


def remap(
    picture: NDArray[ScalarT], places: NDArray[np.float32], how: int, into: NDArray[ScalarT] | None = None
) -> NDArray[ScalarT]:
    """Return (K, L) or (K, L, C) samples at (K, L, 2) places x, y in pixels of a picture, whose border is repeated.

    They are written to `into`, if given.
    """
    # The type stubs of OpenCV before 5.1 do not allow a second map of None.
    sampled = cv2.remap(picture, places, None, how, into, cv2.BORDER_REPLICATE)  # type: ignore[call-overload,unused-ignore]
    return np.asarray(sampled, picture.dtype)
