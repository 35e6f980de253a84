"""Detects that the wall clock was set."""

from __future__ import annotations

import time
from collections.abc import Callable


class ClockSteps:
    """Compares the wall clock with the monotonic clock, which nobody can set.

    Args:
        wall: The wall clock, in seconds.
        monotonic: The monotonic clock, in seconds.
    """

    def __init__(self, wall: Callable[[], float] = time.time, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._wall, self._monotonic = wall, monotonic
        self._offset_s = wall() - monotonic()

    def next_step_s(self) -> float:
        """Return by how many seconds the clock was set forward since the last call; negative if it was set back."""
        offset_s = self._wall() - self._monotonic()
        step_s, self._offset_s = offset_s - self._offset_s, offset_s
        return step_s
