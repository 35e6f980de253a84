"""Things that are cheap to keep and slow to open: avatars in memory, sources that are decoded on."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

K = TypeVar("K")
T = TypeVar("T")


class LruPool(Generic[K, T]):
    """A small least-recently-used store of things that are cheap to keep and slow to open. Thread-safe."""

    def __init__(self, max_entries: int, close: Callable[[T], None] = lambda _: None) -> None:
        """Keep at most `max_entries`; `close` is called with each that is dropped."""
        self._max_entries = max_entries
        self._close = close
        self._entries: dict[K, T] = {}
        self._lock = threading.Lock()

    def take(self, key: K, make: Callable[[], T]) -> T:
        """Return and remove the entry of `key`, or make it. Give it back with `put`."""
        with self._lock:
            if key in self._entries:
                return self._entries.pop(key)
        return make()

    def put(self, key: K, entry: T) -> None:
        """Keep `entry` as the most recently used, in place of another one of its key."""
        with self._lock:
            dropped = [self._entries.pop(key)] if key in self._entries else []
            self._entries[key] = entry
            while len(self._entries) > self._max_entries:
                dropped.append(self._entries.pop(next(iter(self._entries))))
        for old in dropped:
            self._close(old)
