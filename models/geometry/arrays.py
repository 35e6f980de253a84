"""The type of arrays of NumPy and PyTorch alike, and the smoothstep function."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = Any
"""A NumPy array or a PyTorch tensor. `Any`, because the type information of the two libraries has no common base."""


def smooth_step(value: NDArray[np.floating] | float) -> NDArray[Any]:
    """Clamp to [0, 1] and interpolate with the cubic 3x^2 - 2x^3, which has zero slope at both ends."""
    share = np.clip(value, 0.0, 1.0)
    return np.asarray(share * share * (3 - 2 * share))
