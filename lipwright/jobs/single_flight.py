"""Runs work once for all that wait for it at the same time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

K = TypeVar("K")
T = TypeVar("T")
Progress = Callable[[float], Awaitable[None]]


async def ignore_progress(share: float) -> None:
    """A `Progress` callback that does nothing."""


@dataclass(eq=False)
class _Flight(Generic[T]):
    """Work in progress, with the callbacks of those who wait for it."""

    waiters: list[Progress] = field(default_factory=list)
    task: asyncio.Task[T] = field(init=False)

    async def report(self, share: float) -> None:
        for waiter in tuple(self.waiters):
            await waiter(share)


class SingleFlight(Generic[K, T]):
    """Work in progress, by key: it runs while anybody waits for it, and is cancelled with its last waiter."""

    def __init__(self) -> None:
        self._flights: dict[K, _Flight[T]] = {}

    def __iter__(self) -> Iterator[K]:
        """Iterate over the keys of the work in progress."""
        return iter(tuple(self._flights))

    async def run(
        self, key: K, start: Callable[[Progress], Coroutine[Any, Any, T]], on_progress: Progress = ignore_progress
    ) -> T:
        """Return the result of the work of `key`.

        Args:
            key: What the work makes.
            start: Begins it, if it is not in progress; called with what reports its progress, 0 to 1.
            on_progress: Called with the progress.

        Raises:
            Exception: Whatever the work raised, for all that wait.
        """
        flight = self._flights.get(key)
        if flight is None:
            flight = self._flights[key] = _Flight()
            flight.task = asyncio.create_task(start(flight.report))
        flight.waiters.append(on_progress)
        try:
            return await asyncio.shield(flight.task)
        finally:
            flight.waiters.remove(on_progress)
            if (flight.task.done() or not flight.waiters) and self._flights.get(key) is flight:
                del self._flights[key]
            if not flight.task.done() and not flight.waiters:
                flight.task.cancel()
                await asyncio.wait([flight.task])
