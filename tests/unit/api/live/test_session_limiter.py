"""The limiter of live sessions on a simulated clock: what it says to whom it does not let in."""

from __future__ import annotations

from contextlib import ExitStack

import pytest

from api.live.session_limiter import SessionLimiter
from config import LiveConfig
from errors import BusyError


class Clocked:
    """A limiter, and the clock beside it."""

    def __init__(self, max_sessions: int = 1, max_session_s: float = 3600.0) -> None:
        self.at_s = 0.0
        self.limiter = SessionLimiter(
            LiveConfig(max_sessions=max_sessions, max_session_s=max_session_s), lambda: self.at_s
        )

    def session(self, length_s: float) -> None:
        with self.limiter.enter() as place:
            place.begin()
            self.at_s += length_s

    def told_s(self) -> float:
        """The retry delay that a new client would get now."""
        with pytest.raises(BusyError, match="live sessions are in use") as refused, self.limiter.enter():
            pass
        return refused.value.retry_after_s


def test_what_sessions_last_says_when_one_ends() -> None:
    clocked = Clocked()
    for length_s in (20.0, 100.0, 300.0):
        clocked.session(length_s)
    with clocked.limiter.enter():
        assert clocked.told_s() == 100, "half of them end by then"
        clocked.at_s += 40.0
        assert clocked.told_s() == (60 + 260) / 2, "the shortest is no measure of one that has lasted longer"
        clocked.at_s += 100.0
        assert clocked.told_s() == 160
        clocked.at_s += 400.0
        assert clocked.told_s() == 540, "longer than any before: as much again"
    assert clocked.limiter.num_sessions == 0


def test_without_any_session_before_the_present_one_is_the_measure() -> None:
    clocked = Clocked(max_session_s=600.0)
    with clocked.limiter.enter():
        assert clocked.told_s() == 1, "never at once"
        clocked.at_s += 45.5
        assert clocked.told_s() == 46
        clocked.at_s += 500.0
        assert clocked.told_s() == 55, "a session lasts so long at most"


def test_the_first_place_that_is_free_counts() -> None:
    clocked = Clocked(max_sessions=2)
    clocked.session(100.0)
    with ExitStack() as inside:
        inside.enter_context(clocked.limiter.enter())
        clocked.at_s += 70.0
        inside.enter_context(clocked.limiter.enter())
        assert clocked.told_s() == 30


def test_who_was_never_shown_anything_says_nothing_about_sessions() -> None:
    clocked = Clocked()
    clocked.session(100.0)
    with clocked.limiter.enter():
        clocked.at_s += 0.01  # there was no such avatar
    with clocked.limiter.enter():
        assert clocked.told_s() == 100
