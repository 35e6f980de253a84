"""Keeps the SVT-AV1 encoder from giving this process real-time priority."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def normal_scheduling() -> Iterator[None]:
    """Restores the scheduling policy of the calling thread at the end of the block.

    As root, libsvtav1 moves the thread that opens it to SCHED_FIFO with priority 99 and leaves it there. All threads
    and processes that this thread starts later inherit that, and everything else on the machine starves.
    """
    policy, parameters = os.sched_getscheduler(0), os.sched_getparam(0)
    try:
        yield
    finally:
        os.sched_setscheduler(0, policy, parameters)
