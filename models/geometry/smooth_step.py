"""The step that everything fades by."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def smooth_step(value: NDArray[np.floating] | float) -> NDArray[Any]:
    """Returns 0 up to 0, 1 from 1 on, and between them a cubic that begins and ends level."""
    share = np.clip(value, 0.0, 1.0)
    return np.asarray(share * share * (3 - 2 * share))
