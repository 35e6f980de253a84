"""How many live sessions there are at a time: who comes when all are taken is told so before anything is done."""

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

_NUM_LENGTHS: Final = 64  # of the last sessions: what callers do changes in the course of a day


class SessionSlot:
    """One session inside."""

    def __init__(self, since: float) -> None:
        self.since = since
        self._has_begun = False

    @property
    def has_begun(self) -> bool:
        """Whether it was a session, and not only one that was asked for."""
        return self._has_begun

    def begin(self) -> None:
        """Count as a session: its avatar can be shown."""
        self._has_begun = True


class SessionLimiter:
    """The places of one replica of the Ingress.

    Args:
        live: How many there are, and how long a session may last.
        now: A monotonic clock, seconds.
    """

    def __init__(self, live: LiveConfig, now: Callable[[], float] = time.monotonic) -> None:
        self._max_sessions, self._max_session_s = live.max_sessions, live.max_session_s
        self._now = now
        self._inside: set[SessionSlot] = set()
        self._lengths: deque[float] = deque(maxlen=_NUM_LENGTHS)

    @property
    def num_sessions(self) -> int:
        """Sessions at the moment."""
        return len(self._inside)

    @contextmanager
    def enter(self) -> Iterator[SessionSlot]:
        """Hold a slot for the block.

        Raises:
            BusyError: All are taken.
        """
        if len(self._inside) >= self._max_sessions:
            raise BusyError(
                f"All live sessions are taken: expected fewer than {self._max_sessions}, found {len(self._inside)}.",
                math.ceil(self._free_in_s()),
            )
        slot = SessionSlot(self._now())
        self._inside.add(slot)
        try:
            yield slot
        finally:
            self._inside.discard(slot)
            if slot.has_begun:
                self._lengths.append(self._now() - slot.since)

    def _free_in_s(self) -> float:
        """Until the first of those inside is expected to leave; at least a second."""
        now = self._now()
        return max(1.0, min((self._left_s(now - slot.since) for slot in self._inside), default=self._max_session_s))

    def _left_s(self, age_s: float) -> float:
        """What is left of a session of this age: half of those that grew as old had ended by then.

        Where none did, the session itself is all that is known: as much again as it has lasted (the median where
        nothing speaks for one length rather than another; Gott, Nature 363, 1993).
        """
        longer = [length - age_s for length in self._lengths if length > age_s]
        return min(statistics.median(longer) if longer else age_s, self._max_session_s - age_s)
