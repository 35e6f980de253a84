"""Batches of one fixed size, whatever there is to do.

A convolution is computed differently for batches of different sizes and its last bits differ (1e-6 of 1), which moves
some rounded pixel. A service gives the same bytes for the same job however its frames are divided over chunks and
replicas, so every batch is filled up to the same size, and that size is never chosen by measuring: two replicas that
measure differently would paint differently. What is measured is only advice for the person who runs the service.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from errors import CancelledJobError

_LOG = logging.getLogger(__name__)

# Measured with Wav2Lip 96 (AMD EPYC with avx512_bf16, one thread): 92, 90, 80, 81, 81 ms a frame for 1, 2, 4, 8, 16
# in float32, 51, 43, 39, 37, 37 in bfloat16. A chunk is a few frames: larger batches would mostly be filling.
CPU_BATCH: Final = 4
CUDA_BATCH: Final = 16
SIZES: Final = (1, 2, 4, 8, 16)
_WORTH_SAYING: Final = 0.85  # of the time a frame takes now


def usual_batch(device: str) -> int:
    """Return the batch size of a device, "cpu" or "cuda", where the settings name none."""
    return CUDA_BATCH if device == "cuda" else CPU_BATCH


def fixed_batches(
    arrays: Sequence[NDArray[Any]], size: int, should_stop: Callable[[], bool] = lambda: False
) -> Iterator[tuple[tuple[NDArray[Any], ...], int]]:
    """Divide the rows of arrays into batches of a fixed size.

    Args:
        arrays: Each of N rows.
        size: Rows of a batch.
        should_stop: Asked before every batch.

    Yields:
        The batch, filled up with copies of its last row, and how many of its rows are wanted.

    Raises:
        CancelledJobError: `should_stop` said so.
    """
    num = len(arrays[0])
    for start in range(0, num, size):
        if should_stop():
            raise CancelledJobError(f"{start} of {num} faces were painted.")
        rows = np.arange(start, start + size).clip(0, num - 1)
        yield tuple(np.ascontiguousarray(array[rows]) for array in arrays), min(size, num - start)


def seconds_by_batch(
    run: Callable[[int], object], sizes: Sequence[int] = SIZES, budget_s: float = 2.0
) -> dict[int, float]:
    """Measure seconds per frame for batch sizes, ascending, until the time is spent.

    Args:
        run: Runs one batch of a size, to its end.
        sizes: Ascending.
        budget_s: No size is begun that would pass it by what the one before took.
    """
    started, found = time.perf_counter(), dict[int, float]()
    per_frame = 0.0
    for size in sizes:
        if time.perf_counter() - started + 2 * size * per_frame > budget_s:
            break
        run(size)  # the first run of a size prepares its kernels
        before = time.perf_counter()
        run(size)
        per_frame = found[size] = (time.perf_counter() - before) / size
    return found


def advise_batch(run: Callable[[int], object], used: int, budget_s: float = 2.0) -> int:
    """Measure whether another batch size than the one in use is clearly faster, and say so in the log.

    Returns:
        The size that would be best; `used` unless another is faster by a seventh.
    """
    found = seconds_by_batch(run, budget_s=budget_s)
    if used not in found:
        return used
    best = min(found, key=lambda size: found[size])
    if found[best] > _WORTH_SAYING * found[used]:
        return used
    _LOG.warning(
        "batch_size %d takes %.1f ms a frame here, %d would take %.1f: set it alike for all replicas.",
        *(used, 1e3 * found[used], best, 1e3 * found[best]),
    )
    return best
