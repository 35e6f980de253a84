"""The smoothstep function."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def smooth_step(value: NDArray[np.floating] | float) -> NDArray[Any]:
    """Clamps to [0, 1] and interpolates with the cubic 3x^2 - 2x^3, which has zero slope at both ends."""
    share = np.clip(value, 0.0, 1.0)
    return np.asarray(share * share * (3 - 2 * share))
