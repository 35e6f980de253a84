"""The time of one session: when its next moment is due, and when there is none any more."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from api.live.budget import SessionEndError
from api.live.pace import Pace
from config import LiveConfig

_LOOK_S: Final = 0.05
_MAX_WAIT_S: Final = 1.0  # then its bounds are looked at again


class SessionClock:
    """Runs from the moment on at which it is made.

    Args:
        live: The service's bounds.
    """

    def __init__(self, live: LiveConfig) -> None:
        self._live = live
        self._begun_at = self._spoke_at = time.monotonic()
        self._pace = Pace(live.max_ahead_seconds, speed=live.max_speed)
        self._was_interrupted = asyncio.Event()

    def spoke(self) -> None:
        """Somebody said something, or that it is there."""
        self._spoke_at = time.monotonic()

    def showed(self, seconds: float) -> None:
        """The client has shown the stream up to there."""
        self._pace.showed(seconds)

    def interrupted(self) -> None:
        """The next moment shows a mouth that shuts, and is due at once."""
        self._was_interrupted.set()

    async def until_due(self, seconds: float, is_speaking: Callable[[], bool]) -> None:
        """Wait until the moment at this time of the stream is due.

        Args:
            seconds: Its time.
            is_speaking: Whether anything is being said, so that nobody need say more.

        Raises:
            SessionEndError: The session has passed a bound meanwhile.
        """
        while True:
            self._check(is_speaking())
            wait_s = self._pace.wait_s(seconds)
            if wait_s == 0 or (wait_s is not None and self._was_interrupted.is_set()):
                if self._was_interrupted.is_set():  # a shut mouth is shown as soon as it can be
                    self._was_interrupted.clear()
                    self._pace.hurry(seconds)
                return
            if wait_s is None:
                await asyncio.sleep(_LOOK_S)
                continue
            with suppress(TimeoutError):
                await asyncio.wait_for(self._was_interrupted.wait(), min(wait_s, _MAX_WAIT_S))

    def _check(self, is_speaking: bool) -> None:
        live, now = self._live, time.monotonic()
        if now - self._begun_at > live.max_session_s:
            raise SessionEndError(f"A session lasts {live.max_session_s:g} s at most.", 1000)
        if now - self._spoke_at > live.idle_timeout_s and not is_speaking:
            raise SessionEndError(f"Nobody spoke for {live.idle_timeout_s:g} s.", 1000)
        if self._pace.stalled_s() > live.max_stall_s + live.max_ahead_seconds:
            raise SessionEndError("The client has not shown what it was sent; is its line too slow?", 1008)
