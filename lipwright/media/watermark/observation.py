"""Measures the part of a video that changes its sign with the watermark."""

from __future__ import annotations

from typing import Final, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from lipwright.media.watermark.embedder import HALF_PERIOD_SECONDS, NUM_CELLS

SAMPLES_PER_CELL: Final = 4
FIELD_SIDE: Final = NUM_CELLS * SAMPLES_PER_CELL
_BIN_SIDE: Final = 2 * FIELD_SIDE
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
_NOISE_FLOOR: Final = 1.0
"""Variance in squared levels that is added to the measured one, so that flat regions do not count for too much."""


class Zoom(NamedTuple):
    """How many times FIELD_SIDE the sides of a field are: 2 for a marked video that fills a half of the frame."""

    across: int = 1
    down: int = 1


NO_ZOOM: Final = Zoom()


class Observation:
    """Means of the luma over short times, from which the watermark is estimated for any start of its period."""

    def __init__(self) -> None:
        self._sums: list[NDArray[np.float32]] = []
        self._counts: list[int] = []

    def add(self, luma: NDArray[np.uint8], seconds: float) -> None:
        """Add the (H, W) luma of a frame; `seconds` is its time from the first frame, and must not decrease."""
        number = int(seconds / _BIN_SECONDS + 1e-6)
        while len(self._sums) <= number:
            self._sums.append(np.zeros((_BIN_SIDE, _BIN_SIDE), np.float32))
            self._counts.append(0)
        self._sums[number] += cv2.resize(luma, (_BIN_SIDE, _BIN_SIDE), interpolation=cv2.INTER_AREA)
        self._counts[number] += 1

    def spans(self, seconds: float) -> list[range]:
        """Return the whole video, and its parts of about this length if there are several, as ranges of bins."""
        num = len(self._sums)
        parts = round(num * _BIN_SECONDS / seconds)
        edges = np.linspace(0, num, max(parts, 1) + 1).astype(int).tolist()
        pieces = [range(*edge) for edge in zip(edges, edges[1:], strict=False)]
        return [range(num), *pieces] if len(pieces) > 1 else pieces

    def seconds_of(self, span: range) -> tuple[float, float]:
        """Return start and end of a span in seconds."""
        return span.start * _BIN_SECONDS, span.stop * _BIN_SECONDS

    def fields(self, span: range, zoom: Zoom = NO_ZOOM) -> NDArray[np.float32]:
        """Return the estimates for every phase, (NUM_PHASES, H, W), of the size of the zoom.

        Regions that are measured with certainty are larger. The sign of each is unknown. It is zero if the span is too
        short to contain a change of sign.
        """
        size = FIELD_SIDE * zoom.across, FIELD_SIDE * zoom.down
        sums = [cv2.resize(self._sums[number], size, interpolation=cv2.INTER_AREA) for number in span]
        bins = _Bins(np.stack(sums), np.array(self._counts[span.start : span.stop]))
        return np.stack([bins.field(span.start + phase) for phase in range(NUM_PHASES)])


class _Bins(NamedTuple):
    """Sums of the luma over the frames of consecutive bins, (T, H, W), and the numbers of frames, (T,)."""

    sums: NDArray[np.float32]
    counts: NDArray[np.int64]

    def field(self, phase: int) -> NDArray[np.float32]:
        """Return the mean change at the times where the sign changes, each weighted by its certainty."""
        total = np.zeros(self.sums.shape[1:], np.float32)
        for number in range(-phase % NUM_PHASES, len(self.sums), NUM_PHASES):
            before = self._mean(max(number - _NEAR_BINS, 0), number)
            after = self._mean(number, number + _NEAR_BINS)
            if before is None or after is None:
                continue
            change = after - before
            change -= cv2.blur(change, (_DETREND_SIDE, _DETREND_SIDE))
            noise = cv2.blur(change * change, (_NOISE_SIDE, _NOISE_SIDE)) + np.float32(_NOISE_FLOOR)
            total += (1 - 2 * ((number + phase) // NUM_PHASES % 2)) * change / noise
        return np.asarray(total / np.sqrt(_local_level(total)), np.float32)

    def _mean(self, start: int, stop: int) -> NDArray[np.float32] | None:
        """Return the mean picture of some bins; None if less than a half of _NEAR_BINS was seen."""
        counts = self.counts[start:stop]
        if np.count_nonzero(counts) < _NEAR_BINS / 2:
            return None
        mean = self.sums[start:stop].sum(axis=0) / np.float32(counts.sum())
        return np.asarray(cv2.GaussianBlur(mean, (0, 0), _CELL_DEVIATION), np.float32)


def equalise(fields: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return (NUM_PHASES, H, W) fields with a local variance of 1, as the search for their alignment needs them."""
    return np.stack([field / _local_level(field) for field in fields])


def _local_level(field: NDArray[np.float32]) -> NDArray[np.float32]:
    square = cv2.blur(field * field, (_LEVEL_SIDE, _LEVEL_SIDE))
    return np.asarray(np.sqrt(np.maximum(square, 0)) + np.float32(1e-6), np.float32)
