"""Leadership of a shared table: one leads, the next one follows, and nobody leads without the database."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest

from errors import StandbyError
from jobs.reign import Reign
from storage.job_table import JobTable
from storage.postgres.database import Database
from storage.records import JobStatus
from tests.postgres import PostgresServer, running_postgres

_SOON_S = 60.0
_PROMISED_S = 10.0


class Candidate:
    """One Director of several; `log` says when it began and ended to lead."""

    def __init__(self, url: str, name: str) -> None:
        self.table = JobTable(Database(url))
        self.log: list[str] = []
        self.reign = Reign(self.table, name, self._begin, self._end)

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
    """Wait for a state; returns how long it took."""
    began = time.monotonic()
    while not is_so():
        assert time.monotonic() - began < _SOON_S, "it never came"
        await asyncio.sleep(0.02)
    return time.monotonic() - began


def test_one_leads_and_another_follows_it_within_ten_seconds(candidates: tuple[Candidate, Candidate]) -> None:
    first, second = candidates

    async def succeed() -> float:
        leading = asyncio.create_task(first.reign.run())
        await until(lambda: first.reign.leads)
        waiting = asyncio.create_task(second.reign.run())
        await asyncio.sleep(1.0)
        assert first.reign.leads and not second.reign.leads
        with pytest.raises(StandbyError):
            second.reign.check()
        leading.cancel()  # silent: it neither renews nor gives anything back
        took_s = await until(lambda: second.reign.leads)
        waiting.cancel()
        return took_s

    assert asyncio.run(succeed()) < _PROMISED_S
    assert not first.reign.leads, "it counts its own lease"
    assert second.log == ["began"]
    with pytest.raises(StandbyError):
        first.reign.check()


def test_what_is_given_back_is_taken_up_at_once(candidates: tuple[Candidate, Candidate]) -> None:
    first, second = candidates

    async def hand_over() -> None:
        leading = asyncio.create_task(first.reign.run())
        await until(lambda: first.reign.leads)
        leading.cancel()
        await first.reign.stop()
        assert await asyncio.to_thread(second.table.try_claim, "b", 60.0), "the lease had seconds left"

    asyncio.run(hand_over())
    assert first.log == ["began", "ended"]


def test_a_director_that_starts_anew_is_the_heir_of_its_service(postgres: PostgresServer) -> None:
    url = postgres.new_database()
    old, new = Candidate(url, "a"), Candidate(url, "a")

    async def restart() -> None:
        assert await asyncio.to_thread(old.table.try_claim, "a", 3600.0)
        work = asyncio.create_task(new.reign.run())
        await until(lambda: new.reign.leads)
        work.cancel()

    asyncio.run(restart())
    old.table.close()
    new.table.close()


def test_nobody_leads_while_the_database_is_gone_and_one_does_afterwards() -> None:
    with running_postgres() as server:
        candidate = Candidate(server.new_database(), "a")

        async def lose_it() -> None:
            work = asyncio.create_task(candidate.reign.run())
            await until(lambda: candidate.reign.leads)
            await asyncio.to_thread(server.stop)
            await until(lambda: not candidate.reign.leads)
            await until(lambda: candidate.log[-1] == "ended")
            await asyncio.to_thread(server.start)
            await until(lambda: candidate.reign.leads)
            work.cancel()
            with suppress(asyncio.CancelledError):
                await work
            server.freeze()
            asked = asyncio.create_task(candidate.table.off_loop(candidate.table.count_jobs, JobStatus.QUEUED))
            for _ in range(20):
                await asyncio.sleep(0.01)
            assert not asked.done(), "the loop goes on while the database hangs"
            server.thaw()
            assert await asked == 0

        asyncio.run(lose_it())
        assert candidate.log == ["began", "ended", "began"]
        candidate.table.close()
