"""Which stretch of the mel spectrum the network hears for which frame.

The official script (Rudrabha/Wav2Lip, inference.py) gives frame i the 16 columns from floor(80 i / fps) on: at 25 fps
those from 40 i to 40 i + 200 ms. The network was trained on others: `crop_audio_window` of wav2lip_train.py starts one
frame earlier, at 40 (i - 1) ms, so that the middle of what it hears lies 60 ms after the start of the frame, not 100.
Inference is therefore 40 ms off: the mouth shows what is heard one frame later. `mel_offset` moves the windows by
frames of those 40 ms (3.2 columns, at any frame rate): 0 is the official script, -1 the training.

Where a window reaches past the end of the file, the official script takes the last 16 columns for that frame, and
drops all frames after it: up to 0.2 s. Here the missing columns are silence, and every frame of the job is painted.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.engines.contract import FrameSpan
from models.engines.wav2lip.layers import WINDOW_COLUMNS
from models.engines.wav2lip.mel import COLUMNS_PER_SECOND

TRAINING_FPS: Final = 25
MAX_OFFSET: Final = 5
"""Frames of 40 ms by which windows can be moved at most."""
_MARGIN_COLUMNS: Final = MAX_OFFSET * COLUMNS_PER_SECOND // TRAINING_FPS


def window_starts(span: FrameSpan, mel_offset: int = 0) -> NDArray[np.int64]:
    """Return the (T,) first columns of the frames' windows; negative before the start of the file."""
    # In whole numbers: i * (80 / fps) in floating point is now and then a column short.
    step = COLUMNS_PER_SECOND / span.fps
    shift = Fraction(mel_offset * COLUMNS_PER_SECOND, TRAINING_FPS)
    base = step.denominator * shift.denominator
    frames = np.arange(span.first, span.stop, dtype=np.int64)
    return (frames * (step.numerator * shift.denominator) + shift.numerator * step.denominator) // base


def columns_needed(span: FrameSpan) -> tuple[int, int]:
    """Return first and last + 1 of the columns that the frames of a span need with any `mel_offset`."""
    starts = window_starts(FrameSpan(span.fps, span.first, span.num, span.total))
    return int(starts[0]) - _MARGIN_COLUMNS - 1, int(starts[-1]) + _MARGIN_COLUMNS + WINDOW_COLUMNS + 1


def mel_windows(mel: NDArray[np.float32], first_column: int, starts: NDArray[np.int64]) -> NDArray[np.float32]:
    """Cut windows out of columns.

    Args:
        mel: (C, 80) columns.
        first_column: Number of column 0 in the file.
        starts: (T,) first columns of the windows, in the file.

    Returns:
        (T, 80, 16) float32, time along the last axis.
    """
    columns = starts[:, None] - first_column + np.arange(WINDOW_COLUMNS)  # (T, 16)
    if columns.min() < 0 or columns.max() >= len(mel):
        last = first_column + len(mel)
        raise ValueError(f"Expected windows in columns [{first_column}, {last}), got starts {starts[0]}..{starts[-1]}.")
    return np.ascontiguousarray(mel[columns].transpose(0, 2, 1))
