"""What a replica knows of itself: its threads, its device, and how it runs blocking work."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Generic, Literal, TypeVar

import cv2
import ray

Device = Literal["cpu", "cuda"]
K = TypeVar("K")
T = TypeVar("T")

_MAX_UNWIND_S = 10.0  # how long a cancelled request waits for its thread


def claim_threads() -> int:
    """Limit OpenCV to the replica's CPU share and return the number of threads (at least 1) for everything else.

    Ray's `num_cpus` is bookkeeping only: without this every replica uses all cores. Torch takes its number from
    OMP_NUM_THREADS, which Ray sets; importing it here would cost every replica two seconds of its start.
    """
    cpus = ray.get_runtime_context().get_assigned_resources().get("CPU", 1)
    num_threads = max(1, int(cpus))
    cv2.setNumThreads(num_threads if num_threads > 1 else 0)
    return num_threads


def assigned_device() -> Device:
    """Return "cuda" if this replica was given a GPU or a fraction of one, else "cpu".

    A replica with `num_gpus: 0` still sees the GPUs, so visibility says nothing.
    """
    return "cuda" if ray.get_runtime_context().get_assigned_resources().get("GPU", 0) > 0 else "cpu"


async def run_to_end(work: Callable[[], T]) -> T:
    """Run blocking `work()` in a thread; when the request is cancelled, wait for the thread before going on.

    A thread cannot be cancelled. Waiting for it keeps what it uses out of other hands and the replica's
    `max_ongoing_requests` honest, so `work` has to be short.
    """
    task = asyncio.ensure_future(asyncio.to_thread(work))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task], timeout=_MAX_UNWIND_S)
        raise


async def run_stoppable(work: Callable[[threading.Event], T]) -> T:
    """Like `run_to_end` for long work: when the request is cancelled, the event is set and `work` ends early."""
    stop = threading.Event()
    task = asyncio.ensure_future(run_to_end(lambda: work(stop)))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        stop.set()
        await asyncio.wait([task], timeout=_MAX_UNWIND_S)
        raise


class Loaded(Generic[K, T]):
    """A small least-recently-used store of things that are cheap to keep and slow to open. Thread-safe."""

    def __init__(self, max_entries: int, close: Callable[[T], None] = lambda _: None) -> None:
        """Keep at most `max_entries`; `close` is called with each that is dropped."""
        self._max_entries = max_entries
        self._close = close
        self._entries: dict[K, T] = {}
        self._lock = threading.Lock()

    def take(self, key: K, make: Callable[[], T]) -> T:
        """Return and remove the entry of `key`, or make it. Give it back with `put`."""
        with self._lock:
            if key in self._entries:
                return self._entries.pop(key)
        return make()

    def put(self, key: K, entry: T) -> None:
        """Keep `entry` as the most recently used, in place of another one of its key."""
        with self._lock:
            dropped = [self._entries.pop(key)] if key in self._entries else []
            self._entries[key] = entry
            while len(self._entries) > self._max_entries:
                dropped.append(self._entries.pop(next(iter(self._entries))))
        for old in dropped:
            self._close(old)
