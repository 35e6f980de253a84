"""Decides whether a replica can render another live session in real time, and estimates when it can."""

from __future__ import annotations

import math
import statistics
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from config import LiveConfig
from errors import BusyError

_NUM_LENGTHS: Final = 64  # only recent sessions: usage changes over the day
_NUM_ENDED: Final = 256  # a chunk that was requested before its session ended can be rendered after that
_MAX_START_S: Final = 900.0  # without a chunk: its Ingress died, or the analysis of its avatar takes too long
_MAX_GAP_S: Final = 60.0  # between two chunks; a client that plays nothing is closed earlier


@dataclass
class _Session:
    since: float
    seen: float
    owner: str | None = None
    cost: float | None = None  # share of the replica's time; None until it is measured
    has_begun: bool = False  # whether a chunk was rendered, so that its length counts


class LiveAdmission:
    """The sessions of one replica.

    A session is admitted while what all of them take together, each at the measured cost of its avatar, stays below
    `live.max_load` of the replica's time, and there are fewer than `live.max_sessions`. One session is always admitted.
    An API key has a share of both, `live.max_share_per_key`, and one session in any case.

    Args:
        live: Limits.
        now: Monotonic clock, in seconds.
    """

    def __init__(self, live: LiveConfig, now: Callable[[], float] = time.monotonic) -> None:
        self._live, self._now = live, now
        self._sessions: dict[str, _Session] = {}
        self._lengths: deque[float] = deque(maxlen=_NUM_LENGTHS)
        self._ended: deque[str] = deque(maxlen=_NUM_ENDED)
        self._usual_cost = 0.0

    @property
    def num_sessions(self) -> int:
        """Number of current sessions."""
        return len(self._sessions)

    def admit(self, session_id: str, owner: str | None = None) -> None:
        """Take a new session, whose cost is not known yet.

        Args:
            session_id: The session.
            owner: ID of the API key that starts it; None without keys.

        Raises:
            BusyError: The replica cannot render another session, or not one of this owner.
        """
        self._forget_lost()
        self._check(session_id, owner, self._usual_cost)
        now = self._now()
        self._sessions[session_id] = _Session(now, now, owner)

    def set_cost(self, session_id: str, cost: float) -> None:
        """Set the share of the replica's time that an admitted session takes.

        Raises:
            BusyError: That is more than is left; the session is dropped.
        """
        session = self._sessions.get(session_id)  # none if its client has left
        self._check(session_id, None if session is None else session.owner, cost)
        self._usual_cost = cost
        if session is not None:
            session.cost = cost

    def rendered(self, session_id: str) -> None:
        """Note that a chunk of a session was rendered. One that another replica admitted is taken over."""
        if session_id in self._ended:
            return
        now = self._now()
        session = self._sessions.setdefault(session_id, _Session(now, now))
        session.seen, session.has_begun = now, True

    def leave(self, session_id: str) -> None:
        """End a session, if there is one of that name."""
        self._ended.append(session_id)
        session = self._sessions.pop(session_id, None)
        if session is not None and session.has_begun:
            self._lengths.append(self._now() - session.since)

    def _check(self, session_id: str, owner: str | None, cost: float) -> None:
        others = [session for name, session in self._sessions.items() if name != session_id]
        own = [session for session in others if session.owner == owner] if owner is not None else []
        for sessions, share, whose in ((others, 1.0, ""), (own, self._live.max_share_per_key, " of this API key")):
            if not self._has_space(sessions, share, cost):
                self._sessions.pop(session_id, None)
                message = f"All {len(sessions)} live sessions{whose} are in use."
                raise BusyError(message, math.ceil(self._free_in_s(sessions)))

    def _has_space(self, sessions: list[_Session], share: float, cost: float) -> bool:
        """Return whether a session may be added to these in a share of the replica."""
        most = self._live.max_sessions
        if most is not None and len(sessions) >= (most if share == 1 else max(1, int(most * share))):
            return False
        load = sum(self._usual_cost if each.cost is None else each.cost for each in sessions)
        return not sessions or load + cost <= self._live.max_load * share

    def _forget_lost(self) -> None:
        now = self._now()
        for name, session in list(self._sessions.items()):
            if now - session.seen > (_MAX_GAP_S if session.has_begun else _MAX_START_S):
                del self._sessions[name]

    def _free_in_s(self, sessions: list[_Session]) -> float:
        """Return the expected time until one of the sessions ends; at least one second."""
        now = self._now()
        left = (self._left_s(now - session.since) for session in sessions)
        return max(1.0, min(left, default=self._live.max_session_s))

    def _left_s(self, age_s: float) -> float:
        """Return the median remaining length of a session of this age, from recent sessions that lasted longer.

        Without any, as much again as it has lasted: the median without prior knowledge (Gott, Nature 363, 1993).
        """
        longer = [length - age_s for length in self._lengths if length > age_s]
        return min(statistics.median(longer) if longer else age_s, self._live.max_session_s - age_s)
