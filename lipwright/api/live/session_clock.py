"""Timing of a live session: when the next chunk is due, and when the session times out."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from lipwright.api.live.protocol import SessionEndedError
from lipwright.config import LiveConfig

_POLL_S: Final = 0.05
_MAX_LATE_S: Final = 0.3
_MAX_WAIT_S: Final = 1.0  # then the timeouts are checked again


class StreamPacer:
    """Paces a stream in real time. Waits for clients that fall behind, and skips time if rendering falls behind.

    Args:
        max_ahead_seconds: Maximum lead over the client's playback position.
        now: Monotonic clock, in seconds.
        speed: Stream seconds per wall-clock second.
    """

    def __init__(self, max_ahead_seconds: float, now: Callable[[], float] = time.monotonic, speed: float = 1.0) -> None:
        self._max_ahead, self._now, self._speed = max_ahead_seconds, now, speed
        self._zero = now()
        self._shown = 0.0
        self._moved_at = now()

    def report_playback(self, seconds: float) -> None:
        """Update the client's playback position; it never decreases."""
        if seconds > self._shown:
            self._shown, self._moved_at = seconds, self._now()

    def stalled_s(self) -> float:
        """Return how long the playback position has not changed."""
        return self._now() - self._moved_at

    def hurry(self, seconds: float) -> None:
        """Send the chunk at this stream time now, and later chunks earlier by the same amount."""
        self._zero = min(self._zero, self._now() - seconds / self._speed)

    def wait_s(self, seconds: float) -> float | None:
        """Return how long the chunk at this stream time must wait; None until the client has caught up."""
        if seconds - self._shown > self._max_ahead:
            return None
        late = self._now() - self._zero - seconds / self._speed
        if late > _MAX_LATE_S:  # lost time is skipped
            self._zero += late
        return max(0.0, -late)


class SessionClock:
    """Starts when it is created.

    Args:
        live: Limits.
    """

    def __init__(self, live: LiveConfig) -> None:
        self._live = live
        self._begun_at = self._spoke_at = time.monotonic()
        self._pacer = StreamPacer(live.max_ahead_seconds, speed=live.max_speed)
        self._was_interrupted = asyncio.Event()

    def spoke(self) -> None:
        """Reset the idle timeout."""
        self._spoke_at = time.monotonic()

    def report_playback(self, seconds: float) -> None:
        """Update the client's playback position."""
        self._pacer.report_playback(seconds)

    def interrupted(self) -> None:
        """Make the next chunk, which shows the closing mouth, due at once."""
        self._was_interrupted.set()

    async def until_due(self, seconds: float, is_used: Callable[[], bool]) -> None:
        """Wait until the chunk at this stream time is due.

        Args:
            seconds: Stream time of the chunk.
            is_used: Returns whether speech is playing or the session is pushed, which prevents the idle timeout.

        Raises:
            SessionEndedError: The session timed out.
        """
        while True:
            self._check(is_used())
            wait_s = self._pacer.wait_s(seconds)
            if wait_s == 0 or (wait_s is not None and self._was_interrupted.is_set()):
                if self._was_interrupted.is_set():  # show the closed mouth as soon as possible
                    self._was_interrupted.clear()
                    self._pacer.hurry(seconds)
                return
            if wait_s is None:
                await asyncio.sleep(_POLL_S)
                continue
            with suppress(TimeoutError):
                async with asyncio.timeout(min(wait_s, _MAX_WAIT_S)):
                    await self._was_interrupted.wait()

    def _check(self, is_used: bool) -> None:
        live, now = self._live, time.monotonic()
        if now - self._begun_at > live.max_session_s:
            raise SessionEndedError(f"The session reached its maximum length ({live.max_session_s:g} s).", 1000)
        if now - self._spoke_at > live.idle_timeout_s and not is_used:
            raise SessionEndedError(f"The session was idle for {live.idle_timeout_s:g} s.", 1000)
        if self._pacer.stalled_s() > live.max_stall_s + live.max_ahead_seconds:
            raise SessionEndedError("The client is too slow: its playback position does not advance.", 1008)
