"""Leadership of a shared table: one leads, the next one follows, and nobody leads without the database."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest

from errors import StageTimeoutError, StandbyError, UnavailableError
from jobs.leadership import LEASE_S, LeaderElection, ReadinessCheck
from jobs.model.record import JobStatus
from storage.job_table import JobTable
from storage.postgres.database import Database
from tests.postgres import PostgresServer, running_postgres

_PROMISED_S = 10.0
_LOOK_S = 0.02
_LONG_S = 15.0  # a lease that lasts also where this process stands still; nobody waits for its end


class Candidate:
    """One Director of several; `log` says when it began and ended to lead."""

    def __init__(
        self, url: str, name: str, request_handover_when: ReadinessCheck | None = None, lease_s: float = LEASE_S
    ) -> None:
        self.table = JobTable(Database(url))
        self.log: list[str] = []
        self.election = LeaderElection(self.table, name, self._begin, self._end, lease_s, request_handover_when)

    async def _begin(self) -> None:
        self.log.append("began")

    async def _end(self) -> None:
        self.log.append("ended")


pytestmark = pytest.mark.usefixtures("postgres")


@pytest.fixture
def candidates(postgres: PostgresServer) -> Iterator[tuple[Candidate, Candidate]]:
    url = postgres.new_database()
    both = Candidate(url, "a"), Candidate(url, "b")
    yield both
    for candidate in both:
        candidate.table.close()


async def until(is_so: Callable[[], bool]) -> float:
    """Wait for a state; returns how long it took, less what this process stood still."""
    num_looks = 0
    async with asyncio.timeout(60):
        while not is_so():
            await asyncio.sleep(_LOOK_S)
            num_looks += 1
    return num_looks * _LOOK_S


async def test_killed_leader_is_followed_within_ten_seconds(candidates: tuple[Candidate, Candidate]) -> None:
    first, second = candidates
    leading = asyncio.create_task(first.election.run())
    await until(lambda: first.election.is_leader)
    waiting = asyncio.create_task(second.election.run())
    await asyncio.sleep(1.0)
    assert first.election.is_leader and not second.election.is_leader
    with pytest.raises(StandbyError):
        second.election.check()
    leading.cancel()  # silent: it neither renews nor gives anything back
    took_s = await until(lambda: second.election.is_leader)
    waiting.cancel()
    assert took_s < _PROMISED_S
    assert not first.election.is_leader, "it counts its own lease"
    assert second.log == ["began"]
    with pytest.raises(StandbyError):
        first.election.check()


async def test_released_lease_is_claimed_at_once(candidates: tuple[Candidate, Candidate]) -> None:
    first, second = candidates
    leading = asyncio.create_task(first.election.run())
    await until(lambda: first.election.is_leader)
    await first.election.stop()
    assert await asyncio.to_thread(second.table.database.try_claim, "b", 0.1), "the lease had seconds left"
    await asyncio.sleep(2.0)
    assert not first.election.is_leader, "nobody leads, and yet it does not come back"
    assert not leading.done(), "that would be a defect of the Director's"
    leading.cancel()
    assert first.log == ["began", "ended"]


async def test_draining_leader_rejects_new_work_and_keeps_its_lease(candidates: tuple[Candidate, Candidate]) -> None:
    leader, _ = candidates
    work = asyncio.create_task(leader.election.run())
    await until(lambda: leader.election.starts_work)
    leader.election.drain()
    assert leader.election.is_leader
    assert not leader.election.starts_work
    with pytest.raises(UnavailableError, match="is stopping"):
        leader.election.check()
    work.cancel()


async def test_restarted_director_takes_over_its_service_lease(postgres: PostgresServer) -> None:
    url = postgres.new_database()
    old, new = Candidate(url, "a"), Candidate(url, "a")
    assert await asyncio.to_thread(old.table.database.try_claim, "a", 3600.0)
    work = asyncio.create_task(new.election.run())
    await until(lambda: new.election.is_leader)
    work.cancel()
    old.table.close()
    new.table.close()


class Readiness:
    """The stages of a service: none answers before `is_there` is set."""

    def __init__(self) -> None:
        self.is_there = False

    async def __call__(self) -> bool:
        if not self.is_there:
            raise StageTimeoutError("nobody answers")
        return True


async def test_leader_hands_over_to_a_newer_service_when_ready(postgres: PostgresServer) -> None:
    url, ready = postgres.new_database(), Readiness()
    always = Readiness()
    always.is_there = True
    old = Candidate(url, "session_1/lipwright", always, _LONG_S)
    new = Candidate(url, "session_2/lipwright", ready, _LONG_S)
    works = [asyncio.create_task(old.election.run())]
    await until(lambda: old.election.is_leader)
    works.append(asyncio.create_task(new.election.run()))
    await asyncio.sleep(2.0)
    assert old.election.is_leader and not new.election.is_leader, "a service that is not ready asks for nothing"
    ready.is_there = True
    took_s = await until(lambda: new.election.is_leader)
    assert not old.election.is_leader
    await asyncio.sleep(2.0)
    assert new.election.is_leader, "an older one does not ask for its place back"
    for work in works:
        work.cancel()
    assert took_s < _LONG_S, "nobody waited for the end of a lease"
    assert (old.log, new.log) == (["began", "ended"], ["began"])
    for candidate in (old, new):
        candidate.table.close()


async def test_unclaimed_handover_is_claimed_by_any_candidate(postgres: PostgresServer) -> None:
    url = postgres.new_database()
    old = Candidate(url, "session_1/lipwright")
    work = asyncio.create_task(old.election.run())
    await until(lambda: old.election.is_leader)
    successor = JobTable(Database(url))
    assert await asyncio.to_thread(successor.database.request_handover, "session_2/lipwright", 60.0)
    await until(lambda: old.log == ["began", "ended"])
    assert not await asyncio.to_thread(successor.database.try_claim, "session_3/lipwright", 1.0, True), (
        "it is handed to another"
    )
    successor.close()
    assert await until(lambda: old.election.is_leader) < _PROMISED_S
    work.cancel()
    old.table.close()


async def test_election_without_database_has_no_leader() -> None:
    with running_postgres() as server:
        candidate = Candidate(server.new_database(), "a")

        async def lose_it() -> None:
            work = asyncio.create_task(candidate.election.run())
            await until(lambda: candidate.election.is_leader)
            await asyncio.to_thread(server.stop)
            await until(lambda: not candidate.election.is_leader)
            await until(lambda: candidate.log[-1] == "ended")
            await asyncio.to_thread(server.start)
            await until(lambda: candidate.election.is_leader)
            work.cancel()
            with suppress(asyncio.CancelledError):
                await work
            server.freeze()
            asked = asyncio.create_task(candidate.table.run_in_thread(candidate.table.count_jobs, JobStatus.QUEUED))
            for _ in range(20):
                await asyncio.sleep(0.01)
            assert not asked.done(), "the loop goes on while the database hangs"
            server.thaw()
            assert await asked == 0

        await lose_it()
        assert candidate.log == ["began", "ended", "began"]
        candidate.table.close()
