"""Batches of one fixed size, which the chunks of several jobs fill together.

A convolution is computed differently for batches of different sizes and its last bits differ (1e-6 of 1), which moves
some rounded pixels. A service gives the same bytes for the same job regardless of how its frames are divided over
chunks and replicas, so every batch is filled up to the same size. That size is never chosen by measuring: two replicas
that measure differently would generate differently.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from lipwright.errors import CancelledJobError

# Measured with Wav2Lip 96 (AMD EPYC with avx512_bf16, one thread): 92, 90, 80, 81, 81 ms per frame for 1, 2, 4, 8, 16
# in float32, 51, 43, 39, 37, 37 in bfloat16. Larger batches gain nothing, and the last one of a chunk would be filled
# up more.
CPU_BATCH: Final = 4
CUDA_BATCH: Final = 16


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
        should_stop: Checked before every batch.

    Yields:
        The batch, filled up with copies of its last row, and how many of its rows are wanted.

    Raises:
        CancelledJobError: `should_stop` returned True.
    """
    num = len(arrays[0])
    for start in range(0, num, size):
        if should_stop():
            raise CancelledJobError(f"{start} of {num} faces were generated.")
        rows = np.arange(start, start + size).clip(0, num - 1)
        yield tuple(np.ascontiguousarray(array[rows]) for array in arrays), min(size, num - start)


Batch = tuple[tuple[NDArray[Any], ...], int]
"""Arrays of equal length, and how many of their rows are wanted."""
Compute = Callable[[Iterator[Batch]], Iterator[NDArray[Any]]]
"""Takes batches and yields the wanted rows of each result, in order, possibly one or more batches later."""

_LOOK_S: Final = 0.1  # how often a caller that waits for the network checks for cancellation


@dataclass(eq=False)
class _Order:
    """What one caller wants generated."""

    out: NDArray[Any]
    arrays: tuple[NDArray[Any], ...]
    together: Hashable
    should_stop: Callable[[], bool]
    num_taken: int = 0
    num_done: int = 0

    @property
    def num_left(self) -> int:
        return len(self.out) - self.num_taken

    @property
    def is_over(self) -> bool:
        return self.num_done == len(self.out)

    def may_share(self, other: _Order) -> bool:
        """Whether rows of both may be in one batch."""
        mine, theirs = ([(array.shape[1:], array.dtype) for array in order.arrays] for order in (self, other))
        return self.together is not None and self.together == other.together and mine == theirs


@dataclass(frozen=True)
class _Part:
    """Rows of an order that are in a batch."""

    order: _Order
    start: int
    num: int

    def rows(self, array: NDArray[Any]) -> NDArray[Any]:
        return array[self.start : self.start + self.num]


@dataclass
class SharedBatches:
    """Runs a network for several threads, one of them at a time, in batches of `size` rows.

    The last batch of a chunk would be filled up with copies of its last row. If several chunks are generated at once,
    rows of the others take their place. No caller waits for that: while one thread keeps the network busy, rows of the
    others gather.

    A row's bytes depend on nothing but the row: neither its place in a batch nor its neighbours change them, as all
    batches have the same shape.
    """

    size: int
    _waiting: list[_Order] = field(default_factory=list)
    _changed: threading.Condition = field(default_factory=threading.Condition)
    _is_led: bool = False

    def fill(
        self,
        out: NDArray[Any],
        arrays: tuple[NDArray[Any], ...],
        compute: Compute,
        should_stop: Callable[[], bool] = lambda: False,
        together: Hashable = True,
    ) -> None:
        """Compute N rows.

        Args:
            out: N rows, filled with the results.
            arrays: Each of N rows.
            compute: Runs batches of these arrays.
            should_stop: Checked before every batch.
            together: A value that must be equal in chunks whose rows share a batch: the data of the chunk that
                `compute` uses besides the rows. None for rows that share no batch.

        Raises:
            CancelledJobError: `should_stop` returned True.
            Exception: What `compute` raised for a batch of this caller; the rows of other callers in that batch are
                computed again.
        """
        order = _Order(out, arrays, together, should_stop)
        with self._changed:
            self._waiting.append(order)
        try:
            while self._leads(order):
                try:
                    self._run(order, compute)
                finally:
                    with self._changed:
                        self._is_led = False
                        self._changed.notify_all()
        finally:
            with self._changed:
                self._waiting.remove(order)

    def fill_each(
        self,
        out: NDArray[Any],
        arrays: tuple[NDArray[Any], ...],
        compute: Callable[..., NDArray[Any]],
        should_stop: Callable[[], bool] = lambda: False,
    ) -> None:
        """Compute N rows, one batch after the other; see `fill`. `compute` takes the arrays of one batch."""

        def run(batches: Iterator[Batch]) -> Iterator[NDArray[Any]]:
            return (compute(*batch)[:num] for batch, num in batches)

        self.fill(out, arrays, run, should_stop)

    def _leads(self, order: _Order) -> bool:
        """Wait until the order is over (False), or until it is this thread's turn to run the network (True)."""
        with self._changed:
            while not order.is_over:
                if order.should_stop():
                    raise CancelledJobError(f"{order.num_done} of {len(order.out)} faces were generated.")
                if not self._is_led:
                    self._is_led = True
                    return True
                self._changed.wait(_LOOK_S)
        return False

    def _run(self, order: _Order, compute: Compute) -> None:
        """Run the rest of `order`; rows of other orders fill its last batch."""
        under_way = deque[list[_Part]]()

        def batches() -> Iterator[Batch]:
            while not order.should_stop() and (parts := self._take(order)):
                under_way.append(parts)
                yield self._batch(parts)

        try:
            for result in compute(batches()):
                self._deliver(under_way.popleft(), result)
        finally:
            self._give_back(under_way)

    def _take(self, order: _Order) -> list[_Part]:
        with self._changed:
            free, parts = self.size, list[_Part]()
            others = [other for other in self._waiting if other is not order and other.may_share(order)]
            for sharer in (order, *others) if order.num_left else ():
                if num := min(free, sharer.num_left):
                    parts.append(_Part(sharer, sharer.num_taken, num))
                    sharer.num_taken += num
                    free -= num
            return parts

    def _batch(self, parts: list[_Part]) -> Batch:
        num = sum(part.num for part in parts)
        columns = zip(*(part.order.arrays for part in parts), strict=True)
        filled = []
        for column in columns:
            rows = [part.rows(array) for part, array in zip(parts, column, strict=True)]
            filled.append(np.concatenate([*rows, np.repeat(rows[-1][-1:], self.size - num, axis=0)]))
        return tuple(filled), num

    def _deliver(self, parts: list[_Part], result: NDArray[Any]) -> None:
        done = 0
        for part in parts:
            part.rows(part.order.out)[:] = result[done : done + part.num]
            done += part.num
        with self._changed:
            for part in parts:
                part.order.num_done += part.num
            self._changed.notify_all()

    def _give_back(self, under_way: deque[list[_Part]]) -> None:
        """Schedule the rows of failed batches again, in separate batches for each caller."""
        with self._changed:
            for part in (part for parts in under_way for part in parts):
                part.order.num_taken = min(part.order.num_taken, part.start)
                part.order.together = None
