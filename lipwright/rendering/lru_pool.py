"""A pool of objects that are slow to open and cheap to keep."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

K = TypeVar("K")
T = TypeVar("T")


class LruPool(Generic[K, T]):
    """Keeps entries that are not in use, also several of one key; drops the least recently used one. Thread-safe."""

    def __init__(self, max_entries: int, close: Callable[[T], None] = lambda _: None) -> None:
        """Keep at most `max_entries`; call `close` with each dropped entry."""
        self._max_entries = max_entries
        self._close = close
        self._entries: list[tuple[K, T]] = []  # the most recently used one is last
        self._lock = threading.Lock()

    def take(self, key: K, make: Callable[[], T]) -> T:
        """Remove and return the most recent entry of `key`, or make one. Return it with `put`."""
        return self.take_cheapest(lambda found: 0 if found == key else None, make)

    def take_cheapest(self, cost: Callable[[K], int | None], make: Callable[[], T]) -> T:
        """Remove and return the entry whose key costs least, the most recent of several; make one if all cost None."""
        with self._lock:
            costs = [(cost(key), -index) for index, (key, _) in enumerate(self._entries)]
            usable = [(found, index) for found, index in costs if found is not None]
            if usable:
                return self._entries.pop(-min(usable)[1])[1]
        return make()

    def put(self, key: K, entry: T) -> None:
        """Keep `entry` as the most recently used one."""
        with self._lock:
            self._entries.append((key, entry))
            dropped = self._entries[: -self._max_entries]
            del self._entries[: -self._max_entries]
        for _, old in dropped:
            self._close(old)

    def drop(self, matches: Callable[[K], bool]) -> None:
        """Drop the entries whose keys match."""
        with self._lock:
            dropped = [entry for key, entry in self._entries if matches(key)]
            self._entries = [(key, entry) for key, entry in self._entries if not matches(key)]
        for old in dropped:
            self._close(old)
