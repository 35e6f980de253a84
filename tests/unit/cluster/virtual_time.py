"""An event loop whose clock jumps to the next thing that happens: hours of waiting in seconds, with real threads."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Any, TypeVar, TypeVarTuple

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

_LONGEST_THREAD_S = 60.0


class _Selector(selectors.DefaultSelector):
    """Waits for threads as long as they take, and for timers not at all."""

    loop: VirtualTimeLoop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if ready or timeout == 0:
            return ready
        if self.loop.num_in_threads or timeout is None:
            ready = super().select(_LONGEST_THREAD_S)
            assert ready, "everybody waits, and nothing happens"
            return ready
        self.loop.passed_s += timeout
        return ready


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """`asyncio.Runner(loop_factory=VirtualTimeLoop)`; `time()` starts at 0."""

    def __init__(self) -> None:
        self.passed_s, self.num_in_threads = 0.0, 0
        selector = _Selector()
        selector.loop = self
        super().__init__(selector)

    def time(self) -> float:
        return self.passed_s

    def run_in_executor(self, executor: Executor | None, func: Callable[[*Ts], T], *args: *Ts) -> asyncio.Future[T]:
        self.num_in_threads += 1
        future = super().run_in_executor(executor, func, *args)
        future.add_done_callback(self._came_back)
        return future

    def _came_back(self, _: asyncio.Future[Any]) -> None:
        self.num_in_threads -= 1
