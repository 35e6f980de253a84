"""Takes the tremble out of boxes that were found frame by frame."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

# HeyGem (preprocess_audio_and_3dmm.py) smooths boxes twice by the mean of five frames, and keeps one that this would
# move by more than 12 pixels, summed over its four edges: there the head has moved.
_TAPS, _TIMES = 5, 2
_MAX_PIXELS: Final = 3.0


def smooth_rows(rows: NDArray[np.floating], run: NDArray[np.integer]) -> NDArray[np.float64]:
    """Smooth over the whole track, not over batches of four frames as HeyGem does.

    Args:
        rows: (N, C) pixels of N frames.
        run: (N,) number of the stretch that a frame belongs to; nothing is smoothed from one into the next.

    Returns:
        (N, C) float64.
    """
    smoothed = rows.astype(np.float64)
    for number in np.unique(run):
        inside = np.flatnonzero(run == number)
        part = smoothed[inside]
        for _ in range(_TIMES):
            part = _mean(part)
        is_far = np.abs(part - rows[inside]).mean(1) > _MAX_PIXELS
        smoothed[inside] = np.where(is_far[:, None], rows[inside], part)
    return smoothed


def runs_of(shown: NDArray[np.bool_], shot: NDArray[np.integer]) -> NDArray[np.int64]:
    """Number the (N,) frames by the stretch that they belong to: a gap or a cut begins another one."""
    is_new = np.diff(shot, prepend=shot[:1]) != 0
    is_new |= np.diff(shown.astype(np.int8), prepend=shown[:1].astype(np.int8)) != 0
    return np.cumsum(is_new)


def _mean(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    padded = np.pad(rows, ((_TAPS // 2, _TAPS // 2), (0, 0)), mode="edge")
    mean: NDArray[np.float64] = np.lib.stride_tricks.sliding_window_view(padded, _TAPS, axis=0).mean(-1)
    return mean
