"""Cancellation of blocking work that runs in a thread."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class CancelToken:
    """Cancelled once, from any thread.

    Work checks `is_cancelled` between steps, or registers a callback that interrupts its current wait.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._is_cancelled = False
        self._callbacks: list[Callable[[], None]] = []

    def is_cancelled(self) -> bool:
        """Whether the work has been cancelled."""
        return self._is_cancelled

    def cancel(self) -> None:
        """Cancel the work and run the registered callbacks, which must return at once."""
        with self._lock:
            self._is_cancelled = True
            callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            callback()

    @contextmanager
    def on_cancel(self, callback: Callable[[], None]) -> Iterator[None]:
        """Register `callback` for the duration of the block; called at once if already cancelled."""
        with self._lock:
            was_cancelled = self._is_cancelled
            if not was_cancelled:
                self._callbacks.append(callback)
        if was_cancelled:
            callback()
        try:
            yield
        finally:
            with self._lock:
                if callback in self._callbacks:
                    self._callbacks.remove(callback)
