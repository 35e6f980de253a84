"""How blocking work in a thread is ended from another one."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Stop:
    """Set once, from any thread. Work asks `is_set` between steps, or names what ends the wait that it is in."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._is_set = False
        self._ends: list[Callable[[], None]] = []

    def is_set(self) -> bool:
        """Whether the work is to end."""
        return self._is_set

    def set(self) -> None:
        """Ask the work to end; calls what `ending` named, which has to return at once."""
        with self._lock:
            self._is_set = True
            ends, self._ends = self._ends, []
        for end in ends:
            end()

    @contextmanager
    def ending(self, end: Callable[[], None]) -> Iterator[None]:
        """Have `set` call `end` while the block lasts; at once if it was called before."""
        with self._lock:
            was_set = self._is_set
            if not was_set:
                self._ends.append(end)
        if was_set:
            end()
        try:
            yield
        finally:
            with self._lock:
                if end in self._ends:
                    self._ends.remove(end)
