"""When the next moment of a live session is due, and how long its client may stand still."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

_MAX_LATE_S: Final = 0.3


class Pace:
    """The clock of one stream: it runs with the wall, and stands where the client or the machine does not follow.

    Args:
        max_ahead_seconds: Pictures beyond what the client has shown.
        now: A monotonic clock, seconds.
        speed: Seconds of stream in a second of the wall.
    """

    def __init__(self, max_ahead_seconds: float, now: Callable[[], float] = time.monotonic, speed: float = 1.0) -> None:
        self._max_ahead, self._now, self._speed = max_ahead_seconds, now, speed
        self._zero = now()
        self._shown = 0.0
        self._moved_at = now()
        self.num_late = 0

    def showed(self, seconds: float) -> None:
        """The client says up to where it has shown the stream; it never goes back."""
        if seconds > self._shown:
            self._shown, self._moved_at = seconds, self._now()

    def stalled_s(self) -> float:
        """How long the client has shown nothing new."""
        return self._now() - self._moved_at

    def hurry(self, seconds: float) -> None:
        """The moment at this time of the stream leaves now, and those behind it as much earlier."""
        self._zero = min(self._zero, self._now() - seconds / self._speed)

    def wait_s(self, seconds: float) -> float | None:
        """How long the moment at this time of the stream has to wait; None: until the client shows more."""
        if seconds - self._shown > self._max_ahead:
            return None
        late = self._now() - self._zero - seconds / self._speed
        if late > _MAX_LATE_S:  # what is lost is lost: the stream goes on from now
            self._zero += late
            self.num_late += 1
        return max(0.0, -late)
