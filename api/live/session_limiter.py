"""Limits the number of concurrent live sessions and estimates when one becomes free."""

from __future__ import annotations

import math
import statistics
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from config import LiveConfig
from errors import BusyError

_NUM_LENGTHS: Final = 64  # only recent sessions: usage changes over the day


class SessionSlot:
    """A slot for one session."""

    def __init__(self, since: float) -> None:
        self.since = since
        self._has_begun = False

    @property
    def has_begun(self) -> bool:
        """Whether the session started."""
        return self._has_begun

    def begin(self) -> None:
        """Mark the session as started, so that its length is recorded."""
        self._has_begun = True


class SessionLimiter:
    """The session slots of one Ingress replica.

    Args:
        live: Number of slots and maximum session length.
        now: Monotonic clock, in seconds.
    """

    def __init__(self, live: LiveConfig, now: Callable[[], float] = time.monotonic) -> None:
        self._max_sessions, self._max_session_s = live.max_sessions, live.max_session_s
        self._now = now
        self._slots: set[SessionSlot] = set()
        self._lengths: deque[float] = deque(maxlen=_NUM_LENGTHS)

    @property
    def num_sessions(self) -> int:
        """Number of current sessions."""
        return len(self._slots)

    @contextmanager
    def enter(self) -> Iterator[SessionSlot]:
        """Hold a slot for the block.

        Raises:
            BusyError: All slots are in use.
        """
        if len(self._slots) >= self._max_sessions:
            raise BusyError(
                f"All {self._max_sessions} live sessions are in use.",
                math.ceil(self._free_in_s()),
            )
        slot = SessionSlot(self._now())
        self._slots.add(slot)
        try:
            yield slot
        finally:
            self._slots.discard(slot)
            if slot.has_begun:
                self._lengths.append(self._now() - slot.since)

    def _free_in_s(self) -> float:
        """Return the expected time until a slot becomes free; at least one second."""
        now = self._now()
        return max(1.0, min((self._left_s(now - slot.since) for slot in self._slots), default=self._max_session_s))

    def _left_s(self, age_s: float) -> float:
        """Return the median remaining length of a session of this age, from recent sessions that lasted longer.

        Without any, as much again as it has lasted: the median without prior knowledge (Gott, Nature 363, 1993).
        """
        longer = [length - age_s for length in self._lengths if length > age_s]
        return min(statistics.median(longer) if longer else age_s, self._max_session_s - age_s)
