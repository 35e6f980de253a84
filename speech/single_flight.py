"""Does work once for all that ask for it at the same time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

T = TypeVar("T")


@dataclass
class _Flight(Generic[T]):
    task: asyncio.Task[T]
    num_waiting: int = 0


class SingleFlight(Generic[T]):
    """Work in progress, by key. Work is cancelled with its last waiter."""

    def __init__(self) -> None:
        self._flights: dict[str, _Flight[T]] = {}

    async def run(self, key: str, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Return the result of `work()`, or that of work with the same key that is in progress.

        Raises:
            Exception: Whatever the work raised, for all that wait.
        """
        flight = self._flights.get(key)
        if flight is None:
            flight = self._flights[key] = _Flight(asyncio.create_task(work()))
        flight.num_waiting += 1
        try:
            return await asyncio.shield(flight.task)
        finally:
            flight.num_waiting -= 1
            if (flight.task.done() or not flight.num_waiting) and self._flights.get(key) is flight:
                del self._flights[key]
            if not flight.task.done() and not flight.num_waiting:
                flight.task.cancel()
                await asyncio.wait([flight.task])
