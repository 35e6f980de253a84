"""The networks of a replica: loaded when they are first used, dropped when nobody has used them for a while.

Loading one stalls nobody who uses another.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Generic, TypeVar, cast

from config import EngineCacheConfig
from deployments.runtime.replica import Threads

T = TypeVar("T")

logger = logging.getLogger(__name__)


@dataclass
class _Entry(Generic[T]):
    loading: asyncio.Task[T] | None  # None of what was there from the start
    thing: T | None = None
    num_users: int = 0
    used_at: float = field(default_factory=time.monotonic)

    def is_idle(self) -> bool:
        """Whether nobody uses it; whoever wanted it may have left while it was loaded."""
        return not self.num_users and (self.loading is None or self.loading.done())


class ModelCache(Generic[T]):
    """Things that are slow to load and large to keep, by name.

    Args:
        stage: The deployment's name, for errors.
        memory: How many are kept, and for how long.
        kept: Name of the one that is never dropped.
        on_drop: Called after one was dropped.
    """

    def __init__(
        self, stage: str, memory: EngineCacheConfig, kept: str, on_drop: Callable[[], None] = lambda: None
    ) -> None:
        self._memory, self._kept, self._on_drop = memory, kept, on_drop
        self._threads = Threads(f"{stage} (loading)")
        self._entries: dict[str, _Entry[T]] = {}

    def put(self, name: str, thing: T) -> None:
        """Keep something that is loaded already: in the constructor of a replica, where no event loop is at hand."""
        self._entries[name] = _Entry(None, thing)

    @asynccontextmanager
    async def use(self, name: str, load: Callable[[], T]) -> AsyncIterator[T]:
        """Give what `load` returns, or what it returned before; it is not dropped during the block.

        Raises:
            StageTimeoutError: Loading took too long.
            Exception: Whatever `load` raised; the next one who asks tries anew.
        """
        entry = self._entries.get(name)
        if entry is None:
            self._make_room()
            loading = asyncio.create_task(self._threads.run(lambda token: load(), self._memory.load_timeout_s))
            entry = self._entries[name] = _Entry(loading)
        entry.num_users += 1
        try:
            if entry.loading is not None:
                await self._wait(name, entry, entry.loading)
            yield cast(T, entry.thing)
        finally:
            entry.num_users -= 1
            entry.used_at = time.monotonic()

    async def _wait(self, name: str, entry: _Entry[T], loading: asyncio.Task[T]) -> None:
        try:
            entry.thing = await asyncio.shield(loading)
            entry.loading = None
        except BaseException:
            if loading.done() and self._entries.get(name) is entry:
                del self._entries[name]
            raise

    def sweep(self) -> None:
        """Drop what nobody has used for a while; raise what `Threads.check` does."""
        self._threads.check()
        oldest = time.monotonic() - self._memory.max_idle_s
        for name in [name for name in self._idle() if self._entries[name].used_at < oldest]:
            self._drop(name)

    def _make_room(self) -> None:
        idle = self._idle()
        while len(self._entries) >= self._memory.max_loaded and idle:
            self._drop(idle.pop(0))

    def _idle(self) -> list[str]:
        """What may be dropped, the longest unused first."""
        idle = [name for name, entry in self._entries.items() if entry.is_idle() and name != self._kept]
        return sorted(idle, key=lambda name: self._entries[name].used_at)

    def _drop(self, name: str) -> None:
        del self._entries[name]
        logger.info("%s was dropped from memory: nobody uses it", name)
        self._on_drop()
