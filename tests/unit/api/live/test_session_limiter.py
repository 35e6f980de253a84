"""The door of live sessions on a simulated clock: what it says to whom it does not let in."""

from __future__ import annotations

from contextlib import ExitStack

import pytest

from api.live.session_limiter import SessionLimiter
from config import LiveConfig
from errors import BusyError


class Hall:
    """A door, and the clock beside it."""

    def __init__(self, max_sessions: int = 1, max_session_s: float = 3600.0) -> None:
        self.at_s = 0.0
        self.door = SessionLimiter(
            LiveConfig(max_sessions=max_sessions, max_session_s=max_session_s), lambda: self.at_s
        )

    def session(self, length_s: float) -> None:
        with self.door.enter() as place:
            place.begin()
            self.at_s += length_s

    def told_s(self) -> float:
        """When somebody who comes now is told to come again."""
        with pytest.raises(BusyError, match="All live sessions are taken") as refused, self.door.enter():
            pass
        return refused.value.retry_after_s


def test_what_sessions_last_says_when_one_ends() -> None:
    hall = Hall()
    for length_s in (20.0, 100.0, 300.0):
        hall.session(length_s)
    with hall.door.enter():
        assert hall.told_s() == 100, "half of them end by then"
        hall.at_s += 40.0
        assert hall.told_s() == (60 + 260) / 2, "the shortest is no measure of one that has lasted longer"
        hall.at_s += 100.0
        assert hall.told_s() == 160
        hall.at_s += 400.0
        assert hall.told_s() == 540, "longer than any before: as much again"
    assert hall.door.num_sessions == 0


def test_without_any_session_before_the_present_one_is_the_measure() -> None:
    hall = Hall(max_session_s=600.0)
    with hall.door.enter():
        assert hall.told_s() == 1, "never at once"
        hall.at_s += 45.5
        assert hall.told_s() == 46
        hall.at_s += 500.0
        assert hall.told_s() == 55, "a session lasts so long at most"


def test_the_first_place_that_is_free_counts() -> None:
    hall = Hall(max_sessions=2)
    hall.session(100.0)
    with ExitStack() as inside:
        inside.enter_context(hall.door.enter())
        hall.at_s += 70.0
        inside.enter_context(hall.door.enter())
        assert hall.told_s() == 30


def test_who_was_never_shown_anything_says_nothing_about_sessions() -> None:
    hall = Hall()
    hall.session(100.0)
    with hall.door.enter():
        hall.at_s += 0.01  # there was no such avatar
    with hall.door.enter():
        assert hall.told_s() == 100
