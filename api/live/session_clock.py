"""The time of one session: when its next moment is due, and when there is none any more."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from api.live.message_limits import SessionEndedError
from config import LiveConfig

_LOOK_S: Final = 0.05
_MAX_LATE_S: Final = 0.3
_MAX_WAIT_S: Final = 1.0  # then its bounds are looked at again


class StreamPacer:
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


class SessionClock:
    """Runs from the moment on at which it is made.

    Args:
        live: The service's bounds.
    """

    def __init__(self, live: LiveConfig) -> None:
        self._live = live
        self._begun_at = self._spoke_at = time.monotonic()
        self._pacer = StreamPacer(live.max_ahead_seconds, speed=live.max_speed)
        self._was_interrupted = asyncio.Event()

    def spoke(self) -> None:
        """Somebody said something, or that it is there."""
        self._spoke_at = time.monotonic()

    def showed(self, seconds: float) -> None:
        """The client has shown the stream up to there."""
        self._pacer.showed(seconds)

    def interrupted(self) -> None:
        """The next moment shows a mouth that shuts, and is due at once."""
        self._was_interrupted.set()

    async def until_due(self, seconds: float, is_speaking: Callable[[], bool]) -> None:
        """Wait until the moment at this time of the stream is due.

        Args:
            seconds: Its time.
            is_speaking: Whether anything is being said, so that nobody need say more.

        Raises:
            SessionEndedError: The session has passed a bound meanwhile.
        """
        while True:
            self._check(is_speaking())
            wait_s = self._pacer.wait_s(seconds)
            if wait_s == 0 or (wait_s is not None and self._was_interrupted.is_set()):
                if self._was_interrupted.is_set():  # a shut mouth is shown as soon as it can be
                    self._was_interrupted.clear()
                    self._pacer.hurry(seconds)
                return
            if wait_s is None:
                await asyncio.sleep(_LOOK_S)
                continue
            with suppress(TimeoutError):
                await asyncio.wait_for(self._was_interrupted.wait(), min(wait_s, _MAX_WAIT_S))

    def _check(self, is_speaking: bool) -> None:
        live, now = self._live, time.monotonic()
        if now - self._begun_at > live.max_session_s:
            raise SessionEndedError(f"A session lasts {live.max_session_s:g} s at most.", 1000)
        if now - self._spoke_at > live.idle_timeout_s and not is_speaking:
            raise SessionEndedError(f"Nobody spoke for {live.idle_timeout_s:g} s.", 1000)
        if self._pacer.stalled_s() > live.max_stall_s + live.max_ahead_seconds:
            raise SessionEndedError("The client has not shown what it was sent; is its line too slow?", 1008)
