import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from lipwright.config import LiveConfig
from lipwright.errors import BusyError
from lipwright.jobs.messages import AvatarRef, ResolvedAvatar, SourceVideo
from lipwright.media.live.encoder import EncodedPictures
from lipwright.media.live.mp4_boxes import ParameterSets
from lipwright.rendering.live_admission import LiveAdmission, measure_cost
from lipwright.rendering.live_chunk import LiveChunk, LiveChunkRequest
from tests.unit.api.live.live_parts import INFO

PICTURES = EncodedPictures((), ParameterSets(b"", b""))


class Costly:
    """A silent chunk takes 20 ms, a spoken one 40 ms, and the first two a second."""

    def __init__(self) -> None:
        self.requests: list[LiveChunkRequest] = []

    async def render(self, request: LiveChunkRequest) -> LiveChunk:
        self.requests.append(request)
        busy_s = 1.0 if len(self.requests) <= 2 else 0.02 if request.window.is_silent else 0.04
        return LiveChunk(PICTURES, request.first_frame, busy_s)


def test_measure_cost_is_the_mean_of_silence_and_speech() -> None:
    renderer = Costly()
    shown = ResolvedAvatar(AvatarRef("avatar", SourceVideo("presenter.mp4", INFO)))
    cost = asyncio.run(measure_cost(renderer, "s", shown, LiveConfig(chunk_seconds=0.08, max_chunk_seconds=0.16)))
    assert cost == pytest.approx((0.02 / 0.16 + 0.04 / 0.08) / 2)
    assert [request.num_frames for request in renderer.requests] == [4, 2] * 4
    assert [request.first_frame for request in renderer.requests] == [0, 4, 6, 10, 12, 16, 18, 22]
    assert [request.window.is_silent for request in renderer.requests] == [True, False] * 4
    states = [request.state for request in renderer.requests]
    assert states == [None, *(request.first_frame for request in renderer.requests[:-1])]


class Clocked:
    """An admission, and the clock beside it."""

    def __init__(self, max_sessions: int | None = 1, max_session_s: float = 3600.0) -> None:
        self.at_s, self._num = 0.0, 0
        live = LiveConfig(max_sessions=max_sessions, max_session_s=max_session_s, max_load=0.8)
        self.admission = LiveAdmission(live, lambda: self.at_s)

    def admit(self, name: str, cost: float, owner: str | None = None) -> None:
        self.admission.admit(name, owner)
        self.admission.set_cost(name, cost)

    @contextmanager
    def inside(self) -> Iterator[str]:
        self._num += 1
        self.admit(name := f"s{self._num}", 0.1)
        yield name
        self.admission.leave(name)

    def session(self, length_s: float) -> None:
        with self.inside() as name:
            self.admission.rendered(name)
            self.at_s += length_s

    def told_s(self) -> float:
        """The retry delay that a new client would get now."""
        with pytest.raises(BusyError, match="live sessions are in use") as refused:
            self.admission.admit("new")
        return refused.value.retry_after_s


def test_retry_after_is_the_median_rest_of_sessions() -> None:
    clocked = Clocked()
    for length_s in (20.0, 100.0, 300.0):
        clocked.session(length_s)
    with clocked.inside() as name:
        assert clocked.told_s() == 100, "half of them end by then"
        clocked.at_s += 40.0
        clocked.admission.rendered(name)
        assert clocked.told_s() == (60 + 260) / 2, "the shortest is no measure of one that has lasted longer"
        clocked.at_s += 50.0
        clocked.admission.rendered(name)
        clocked.at_s += 50.0
        assert clocked.told_s() == 160
    assert clocked.admission.num_sessions == 0
    clocked = Clocked(max_session_s=600.0)
    with clocked.inside():
        assert clocked.told_s() == 1, "without history it is the session's age, but never at once"
        clocked.at_s += 45.5
        assert clocked.told_s() == 46
        clocked.at_s += 500.0
        assert clocked.told_s() == 55, "a session lasts so long at most"
    clocked = Clocked()
    clocked.session(100.0)
    with clocked.inside():
        clocked.at_s += 0.01  # there was no such avatar, and no chunk
    with clocked.inside():
        assert clocked.told_s() == 100


def test_admit_while_the_measured_cost_fits() -> None:
    clocked = Clocked(max_sessions=None)
    for number in range(4):
        clocked.admit(f"s{number}", 0.19)
    clocked.told_s()
    clocked.admission.leave("s1")
    clocked.admission.admit("large")
    with pytest.raises(BusyError):
        clocked.admission.set_cost("large", 0.5)
    assert clocked.admission.num_sessions == 3, "a large avatar does not fit where a small one does"
    clocked.admit("small", 0.2)


def test_rendered_or_costly_session_takes_a_slot() -> None:
    clocked = Clocked(max_sessions=1)
    clocked.admission.rendered("from a dead replica")
    clocked.told_s()
    clocked = Clocked(max_sessions=None)
    clocked.admit("a", 3.0)  # above `max_load`
    clocked.told_s()


def test_admit_forgets_left_sessions_and_those_without_chunks() -> None:
    clocked = Clocked()
    with clocked.inside() as left:
        pass
    clocked.admission.set_cost(left, 0.1)
    clocked.admission.rendered(left)
    assert clocked.admission.num_sessions == 0
    clocked.admission.admit("lost")
    clocked.at_s += 300.0
    clocked.told_s()
    clocked.admission.rendered("lost")
    clocked.at_s += 61.0
    clocked.admission.admit("next")


def test_admit_key_over_its_share_of_sessions_is_refused() -> None:
    admission = Clocked(max_sessions=4).admission
    for name in ("a0", "a1"):
        admission.admit(name, "a")
    with pytest.raises(BusyError, match="All 2 live sessions of this API key are in use"):
        admission.admit("a2", "a")
    for name in ("b0", "b1"):
        admission.admit(name, "b")
    with pytest.raises(BusyError, match="All 4 live sessions are in use"):
        admission.admit("c0", "c")
    admission.leave("a0")
    admission.admit("c0", "c")
    without_keys = Clocked(max_sessions=4)
    for number in range(4):
        without_keys.admit(f"s{number}", 0.1)


def test_admit_key_over_its_share_of_load_is_refused() -> None:
    clocked = Clocked(max_sessions=None)
    clocked.admit("a0", 0.3, "a")
    with pytest.raises(BusyError, match="of this API key"):
        clocked.admission.admit("a1", "a")
    with pytest.raises(BusyError, match="All 1 live sessions are in use"):
        clocked.admit("b0", 0.6, "b")
    clocked.admit("b0", 0.45, "b")
