"""What a replica knows of itself: its threads, its device, and how it runs blocking work."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any, Literal, TypeVar

import cv2
import ray

Device = Literal["cpu", "cuda"]
T = TypeVar("T")


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


async def run_stoppable(work: Callable[[threading.Event], T]) -> T:
    """Run blocking `work(stop)` in a thread; when the request is cancelled, set `stop` and wait for the thread.

    A thread cannot be cancelled: `work` looks at `stop` between short steps and returns early. Waiting for it keeps
    the replica's `max_ongoing_requests` honest and its objects out of two threads at once.
    """
    stop = threading.Event()
    task: asyncio.Future[T] = asyncio.ensure_future(asyncio.to_thread(work, stop))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        stop.set()
        await asyncio.wait([task], timeout=10)
        raise


class Loaded:
    """A small least-recently-used store of things that are cheap to keep and slow to open (not thread-safe)."""

    def __init__(self, max_entries: int, close: Callable[[Any], None] = lambda _: None) -> None:
        """Keep at most `max_entries`; `close` is called with each that is dropped."""
        self._max_entries = max_entries
        self._close = close
        self._entries: dict[Any, Any] = {}

    def take(self, key: Any, make: Callable[[], T]) -> T:
        """Return and remove the entry of `key`, or make it. Give it back with `put`."""
        return self._entries.pop(key) if key in self._entries else make()

    def put(self, key: Any, entry: Any) -> None:
        """Keep `entry` as the most recently used."""
        if key in self._entries:
            self._close(entry)
            return
        self._entries[key] = entry
        while len(self._entries) > self._max_entries:
            self._close(self._entries.pop(next(iter(self._entries))))
