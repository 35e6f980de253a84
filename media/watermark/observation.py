"""Measures the part of a video that changes its sign with the watermark."""

from __future__ import annotations

from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from media.watermark.pattern import HALF_PERIOD_SECONDS, NUM_CELLS

SAMPLES_PER_CELL: Final = 4
FIELD_SIDE: Final = NUM_CELLS * SAMPLES_PER_CELL
NUM_PHASES: Final = 8
"""A video may start at any time within a half-period; that many starts are tried."""
_BIN_SECONDS: Final = HALF_PERIOD_SECONDS / NUM_PHASES
_NEAR_BINS: Final = 3
"""Bins before and after a change of sign that are compared: cuts and movement elsewhere do no harm."""
_CELL_DEVIATION: Final = 1.5
"""Standard deviation in samples of a Gaussian filter that is matched to the shape of a cell."""
_DETREND_SIDE: Final = 15
_NOISE_SIDE: Final = 2 * SAMPLES_PER_CELL + 1
_LEVEL_SIDE: Final = 6 * SAMPLES_PER_CELL + 1
_NOISE_FLOOR: Final = 0.5
"""Variance in squared levels that is added to the measured one, so that flat regions do not count for too much."""


class Observation:
    """Means of the luma over short times, from which the watermark is estimated for any start of its period."""

    def __init__(self) -> None:
        self._sums: list[NDArray[np.float32]] = []
        self._counts: list[int] = []

    def add(self, luma: NDArray[np.uint8], seconds: float) -> None:
        """Adds the (H, W) luma of a frame; `seconds` is its time from the first frame, and must not decrease."""
        number = int(seconds / _BIN_SECONDS + 1e-6)
        while len(self._sums) <= number:
            self._sums.append(np.zeros((FIELD_SIDE, FIELD_SIDE), np.float32))
            self._counts.append(0)
        self._sums[number] += cv2.resize(luma, (FIELD_SIDE, FIELD_SIDE), interpolation=cv2.INTER_AREA)
        self._counts[number] += 1

    def spans(self, seconds: float) -> list[range]:
        """Returns the whole video, and its parts of about this length if there are several, as ranges of bins."""
        num = len(self._sums)
        parts = round(num * _BIN_SECONDS / seconds)
        edges = np.linspace(0, num, max(parts, 1) + 1).astype(int).tolist()
        pieces = [range(*edge) for edge in zip(edges, edges[1:], strict=False)]
        return [range(num), *pieces] if len(pieces) > 1 else pieces

    def seconds_of(self, span: range) -> tuple[float, float]:
        """Returns start and end of a span in seconds."""
        return span.start * _BIN_SECONDS, span.stop * _BIN_SECONDS

    def fields(self, span: range) -> NDArray[np.float32]:
        """Returns the estimates for every phase, (NUM_PHASES, FIELD_SIDE, FIELD_SIDE) with local variance 1.

        The sign of each is unknown. It is zero if the span is too short to contain a change of sign.
        """
        return np.stack([self._field(span, phase) for phase in range(NUM_PHASES)])

    def _field(self, span: range, phase: int) -> NDArray[np.float32]:
        """Returns the mean change at the times where the sign changes, each weighted by its certainty."""
        total = np.zeros((FIELD_SIDE, FIELD_SIDE), np.float32)
        for number in range(span.start, span.stop):
            half, offset = divmod(number + phase, NUM_PHASES)
            if offset:
                continue
            before = self._mean(range(max(number - _NEAR_BINS, span.start), number))
            after = self._mean(range(number, min(number + _NEAR_BINS, span.stop)))
            if before is None or after is None:
                continue
            change = after - before
            change -= cv2.blur(change, (_DETREND_SIDE, _DETREND_SIDE))
            noise = cv2.blur(change * change, (_NOISE_SIDE, _NOISE_SIDE)) + np.float32(_NOISE_FLOOR)
            total += (1 - 2 * (half % 2)) * change / noise
        level = cv2.blur(total * total, (_LEVEL_SIDE, _LEVEL_SIDE))
        return np.asarray(total / (np.sqrt(np.maximum(level, 0)) + np.float32(1e-6)), np.float32)

    def _mean(self, numbers: range) -> NDArray[np.float32] | None:
        """Returns the mean picture of some bins; None if less than a half of _NEAR_BINS was seen."""
        seen = [number for number in numbers if self._counts[number]]
        if len(seen) < _NEAR_BINS / 2:
            return None
        total = np.sum([self._sums[number] for number in seen], axis=0, dtype=np.float32)
        mean = np.asarray(total / sum(self._counts[number] for number in seen), np.float32)
        return np.asarray(cv2.GaussianBlur(mean, (0, 0), _CELL_DEVIATION), np.float32)
