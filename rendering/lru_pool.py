"""A small LRU pool of open readers and avatars, which are slow to open and cheap to keep."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

K = TypeVar("K")
T = TypeVar("T")


class LruPool(Generic[K, T]):
    """Keeps entries that nobody uses at the moment; the least recently used one is dropped first. Thread-safe."""

    def __init__(self, max_entries: int, close: Callable[[T], None] = lambda _: None) -> None:
        """Keep at most `max_entries`; call `close` with each dropped entry."""
        self._max_entries = max_entries
        self._close = close
        self._entries: dict[K, T] = {}
        self._lock = threading.Lock()

    def take(self, key: K, make: Callable[[], T]) -> T:
        """Remove and return the entry of `key`, or make one. Return it with `put`."""
        with self._lock:
            if key in self._entries:
                return self._entries.pop(key)
        return make()

    def put(self, key: K, entry: T) -> None:
        """Keep `entry` as the most recently used one; it replaces an entry with the same key."""
        with self._lock:
            dropped = [self._entries.pop(key)] if key in self._entries else []
            self._entries[key] = entry
            while len(self._entries) > self._max_entries:
                dropped.append(self._entries.pop(next(iter(self._entries))))
        for old in dropped:
            self._close(old)
