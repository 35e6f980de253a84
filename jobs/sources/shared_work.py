"""Work that several callers wait for and that runs once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

K = TypeVar("K")
Progress = Callable[[float], Awaitable[None]]


@dataclass(eq=False)
class _Work:
    """Work that runs, with the callbacks of those who wait for it."""

    task: asyncio.Task[None] | None = None
    waiters: list[Progress] = field(default_factory=list)

    async def report(self, share: float) -> None:
        for waiter in tuple(self.waiters):
            await waiter(share)


class SharedWork(Generic[K]):
    """Work by its key: it runs while anybody waits for it, and is cancelled with its last waiter."""

    def __init__(self) -> None:
        self._works: dict[K, _Work] = {}

    def __iter__(self) -> Any:
        """Iterate over the keys of the work that runs."""
        return iter(tuple(self._works))

    async def join(self, key: K, start: Callable[[Progress], Coroutine[Any, Any, None]], on_progress: Progress) -> None:
        """Wait for the work of `key`; `start` begins it if it does not run, given how to report its progress, 0 to 1.

        Raises:
            LipwrightError: What ended the work.
        """
        work = self._works.get(key)
        if work is None:
            work = self._works[key] = _Work()
            work.task = asyncio.create_task(start(work.report))
        assert work.task is not None
        work.waiters.append(on_progress)
        try:
            await asyncio.shield(work.task)
        finally:
            work.waiters.remove(on_progress)
            if not work.waiters:
                work.task.cancel()
                if self._works.get(key) is work:
                    del self._works[key]
