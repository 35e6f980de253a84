"""A cache of the networks of a replica: loaded on first use, dropped when they were idle for a while.

Loading one network does not block the use of another.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Generic, TypeVar, cast

from deployments.runtime.replica import Threads
from lipwright.config import EngineCacheConfig

T = TypeVar("T")

logger = logging.getLogger(__name__)


@dataclass
class _Entry(Generic[T]):
    loading: asyncio.Task[T] | None  # None if it was added with `put`
    thing: T | None = None
    num_users: int = 0
    used_at: float = field(default_factory=time.monotonic)

    def has_failed(self) -> bool:
        """Whether loading failed after all its users had left."""
        loading = self.loading
        return loading is not None and loading.done() and (loading.cancelled() or loading.exception() is not None)

    def is_idle(self) -> bool:
        """Whether the entry is unused; its users may have left while it was loaded."""
        return not self.num_users and (self.loading is None or self.loading.done())


class ModelCache(Generic[T]):
    """An LRU cache by name of objects that are slow to load and large; the entry `kept` is never dropped.

    `stage` is the deployment's name, for errors; `memory` says how many entries are kept, and for how long.
    """

    def __init__(
        self, stage: str, memory: EngineCacheConfig, kept: str, on_drop: Callable[[], None] = lambda: None
    ) -> None:
        self._memory, self._kept, self._on_drop = memory, kept, on_drop
        self._threads = Threads(f"{stage} (loading)")
        self._entries: dict[str, _Entry[T]] = {}

    def put(self, name: str, thing: T) -> None:
        """Add an object that is already loaded. For constructors of replicas, which have no event loop."""
        self._entries[name] = _Entry(None, thing)

    def loaded(self, name: str) -> T | None:
        """Return the entry if it is loaded."""
        entry = self._entries.get(name)
        return None if entry is None else entry.thing

    @asynccontextmanager
    async def use(self, name: str, load: Callable[[], T]) -> AsyncIterator[T]:
        """Yield the entry, loaded with `load` if it is missing; it is not dropped during the block.

        Raises:
            StageTimeoutError: Loading timed out.
            Exception: Whatever `load` raised; the next call tries again.
        """
        entry = self._entries.get(name)
        if entry is None or entry.has_failed():
            self._evict_idle()
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
        """Drop entries that were idle for too long. Raises like `Threads.check`."""
        self._threads.check()
        oldest = time.monotonic() - self._memory.max_idle_s
        for name in [name for name in self._idle() if self._entries[name].used_at < oldest]:
            self._drop(name)

    def _evict_idle(self) -> None:
        idle = self._idle()
        while len(self._entries) >= self._memory.max_loaded and idle:
            self._drop(idle.pop(0))

    def _idle(self) -> list[str]:
        """Return the names of entries that may be dropped, the longest unused first."""
        idle = [name for name, entry in self._entries.items() if entry.is_idle() and name != self._kept]
        return sorted(idle, key=lambda name: self._entries[name].used_at)

    def _drop(self, name: str) -> None:
        del self._entries[name]
        logger.info("%s: dropped from memory (idle)", name)
        self._on_drop()
