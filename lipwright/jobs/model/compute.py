"""Measures the compute time of calls to stages, in the process that makes the calls."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Generic, NamedTuple, TypeVar, overload

T = TypeVar("T")


class ComputeTime(NamedTuple):
    """Seconds of CPU time, and seconds in which a replica with a GPU worked."""

    cpu_seconds: float = 0.0
    gpu_seconds: float = 0.0


class Metered(NamedTuple, Generic[T]):
    """The result of a call to a stage, and the compute time that it took."""

    value: T
    compute: ComputeTime


class ComputeMeter:
    """Sums up compute time. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sum = ComputeTime()

    @property
    def total(self) -> ComputeTime:
        """What was added and not taken."""
        return self._sum

    def add(self, compute: ComputeTime) -> None:
        """Add compute time."""
        with self._lock:
            cpu_seconds, gpu_seconds = self._sum
            self._sum = ComputeTime(cpu_seconds + compute.cpu_seconds, gpu_seconds + compute.gpu_seconds)

    def take(self) -> ComputeTime:
        """Return what was added since the last call."""
        with self._lock:
            taken, self._sum = self._sum, ComputeTime()
        return taken


_meter: ContextVar[ComputeMeter | None] = ContextVar("lipwright_compute", default=None)


@contextmanager
def metered() -> Iterator[ComputeMeter]:
    """Measure the calls to stages in the block, also those of tasks and threads that it starts."""
    meter = ComputeMeter()
    token = _meter.set(meter)
    try:
        yield meter
    finally:
        _meter.reset(token)


@overload
def received(answer: Metered[T]) -> T: ...
@overload
def received(answer: T) -> T: ...
def received(answer: T | Metered[T]) -> T:
    """Return the result of a call; its compute time is added to the meter of this context."""
    if not isinstance(answer, Metered):
        return answer
    current_meter().add(answer.compute)
    value: T = answer.value
    return value


def current_meter() -> ComputeMeter:
    """Return the meter of this context; outside `metered`, one that nobody reads."""
    return _meter.get() or ComputeMeter()


@contextmanager
def recorded_compute() -> Iterator[ComputeTime]:
    """Take the compute time of this context, for the block to record; it is put back if the block fails."""
    meter = current_meter()
    compute = meter.take()
    try:
        yield compute
    except BaseException:
        meter.add(compute)
        raise
