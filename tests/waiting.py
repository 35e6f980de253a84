"""Waits for a state; both functions return how many seconds that took."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable


def wait_until(is_so: Callable[[], object], bound_s: float = 120.0, pause_s: float = 0.05) -> float:
    started = time.monotonic()
    while not is_so():
        assert time.monotonic() - started < bound_s, f"timed out after {bound_s:.0f} s"
        time.sleep(pause_s)
    return time.monotonic() - started


async def until(is_so: Callable[[], object], bound_s: float = 60.0, pause_s: float = 0.01) -> float:
    started = time.monotonic()
    while not is_so():
        assert time.monotonic() - started < bound_s, f"timed out after {bound_s:.0f} s"
        await asyncio.sleep(pause_s)
    return time.monotonic() - started
