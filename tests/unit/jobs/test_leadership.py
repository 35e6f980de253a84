"""Leadership of a shared table: one leads and the next follows, also with schedulers and their jobs."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from lipwright.config import PipelineConfig
from lipwright.errors import StandbyError, UnavailableError
from lipwright.jobs.leadership import LeaderElection
from lipwright.jobs.model.record import JobQuery, JobRecord, JobStatus
from lipwright.jobs.scheduler import JobScheduler
from lipwright.storage.file_keys import job_file_key
from lipwright.storage.file_store import FileStore
from lipwright.storage.job_table import JobTable
from lipwright.storage.postgres.database import Database
from tests.postgres import PostgresServer, running_postgres
from tests.unit.job_records import job_record
from tests.unit.jobs.job_bench import JobBench
from tests.unit.jobs.test_scheduler import DeafStages
from tests.unit.on_disk import on_disk
from tests.waiting import wait_until

_PROMISED_S = 10.0
_LOOK_S = 0.02


class Candidate:
    """One Director of several; `log` says when it began and ended to lead."""

    def __init__(self, url: str, name: str) -> None:
        self.table, self.log = JobTable(Database(url)), list[str]()
        self.election = LeaderElection(self.table, name, self._begin, self._end)

    async def _begin(self) -> None:
        self.log.append("began")

    async def _end(self) -> None:
        self.log.append("ended")


pytestmark = pytest.mark.usefixtures("postgres")


Propose = Callable[[str], Candidate]


@pytest.fixture
def propose(postgres: PostgresServer) -> Iterator[Propose]:
    """Makes candidates at one database."""
    url, made = postgres.new_database(), list[Candidate]()

    def add(name: str) -> Candidate:
        made.append(Candidate(url, name))
        return made[-1]

    yield add
    for candidate in made:
        candidate.table.close()


async def until(is_so: Callable[[], bool]) -> float:
    """Wait for a state; returns how long it took, less what this process stood still."""
    num_looks = 0
    async with asyncio.timeout(60):
        while not is_so():
            await asyncio.sleep(_LOOK_S)
            num_looks += 1
    return num_looks * _LOOK_S


async def test_killed_leader_is_followed_within_ten_seconds(propose: Propose) -> None:
    first, second = propose("a"), propose("b")
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


async def test_released_lease_is_claimed_at_once(propose: Propose) -> None:
    first, second = propose("a"), propose("b")
    leading = asyncio.create_task(first.election.run())
    await until(lambda: first.election.starts_work)
    first.election.drain()
    assert first.election.is_leader and not first.election.starts_work
    with pytest.raises(UnavailableError, match="is stopping"):
        first.election.check()
    await first.election.stop()
    assert await asyncio.to_thread(second.table.database.try_claim, "b", 0.1), "the lease had seconds left"
    await asyncio.sleep(2.0)
    assert not first.election.is_leader, "nobody leads, and yet it does not come back"
    assert not leading.done(), "that would be a defect of the Director's"
    leading.cancel()
    assert first.log == ["began", "ended"]


async def test_restarted_director_takes_over_its_service_lease(propose: Propose) -> None:
    old, new = propose("a"), propose("a")
    assert await asyncio.to_thread(old.table.database.try_claim, "a", 3600.0)
    work = asyncio.create_task(new.election.run())
    await until(lambda: new.election.is_leader)
    work.cancel()


async def test_election_without_database_has_no_leader() -> None:
    with running_postgres() as server:
        candidate = Candidate(server.new_database(), "a")

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
        assert candidate.log == ["began", "ended", "began"]
        candidate.table.close()


NUM_JOBS = 6
SHORT_LEASE_S = 4.0  # the leader loses it where this process stands still for longer
LONG_LEASE_S = 20.0  # renewed every 4 s
_SOON_S = 60.0


class Service(JobBench):
    """A Director's rules in a thread with an event loop of its own."""

    def __init__(self, name: str, url: str, folder: Path, lease_s: float = LONG_LEASE_S) -> None:
        self.loop, self.stages = asyncio.new_event_loop(), DeafStages(name)
        super().__init__(FileStore(folder), JobTable(Database(url)), self.stages, PipelineConfig(data_dir=folder))
        self.scheduler = JobScheduler(self.services, lambda: self.election.is_leader)
        begin, end = self.scheduler.resume_unfinished, self.scheduler.stop_all
        self.election = LeaderElection(self.table, name, begin, end, lease_s)
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self._thread.start()

    def start(self) -> None:
        asyncio.run_coroutine_threadsafe(self.election.run(), self.loop)

    def stop(self) -> None:
        """End in order: nothing of it leads any more when this returns."""
        asyncio.run_coroutine_threadsafe(self.election.stop(), self.loop).result(_SOON_S)

    def fall_silent(self, awake: threading.Event) -> None:
        """Do nothing until `awake` is set."""
        self.loop.call_soon_threadsafe(awake.wait, _SOON_S)

    def end(self) -> None:
        asyncio.run_coroutine_threadsafe(self._rest(), self.loop).result(_SOON_S)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(_SOON_S)
        self.loop.close()
        self.table.close()

    async def _rest(self) -> None:
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


Services = tuple[Service, Service]


@pytest.fixture
def services(postgres: PostgresServer, tmp_path: Path) -> Iterator[Services]:
    url = postgres.new_database()
    # The second one must not lose its lease, or the first would run its jobs.
    both = Service("a", url, tmp_path, SHORT_LEASE_S), Service("b", url, tmp_path)
    yield both
    for service in both:
        service.end()


def add(service: Service) -> JobRecord:
    job = job_record()
    on_disk(service.files, job_file_key(job.id)).write_bytes(b"abc")
    return service.table.insert_job(job)


def test_no_job_is_lost_and_none_ends_twice(services: Services) -> None:
    first, second = services
    jobs = [add(first) for _ in range(NUM_JOBS)]
    first.start()
    wait_until(lambda: len(first.stages.asked) == 4)
    second.start()
    awake = threading.Event()
    first.fall_silent(awake)
    wait_until(lambda: len(second.stages.asked) == 4)
    first.stages.go.set()
    awake.set()  # its jobs end while it wakes up
    wait_until(lambda: not first.scheduler._running)
    statuses = Counter(second.table.get_job(job.id).status for job in jobs)
    assert statuses == {JobStatus.RUNNING: 4, JobStatus.QUEUED: 2}, "the one that woke up too late has written nothing"
    second.loop.call_soon_threadsafe(second.stages.go.set)
    wait_until(lambda: not second.table.unfinished_jobs())
    ended = second.table.list_jobs(JobQuery(limit=99)).jobs
    assert {job.id for job in ended} == {job.id for job in jobs}
    assert {job.error.message for job in ended if job.error is not None} == {"b: expected sound, found none."}
    assert Counter(second.stages.asked) == Counter(job.id for job in jobs), "each was run once"
    assert not first.election.is_leader


def test_an_upgrade_runs_each_job_to_one_end(services: Services) -> None:
    """The old service is stopped, with jobs that wait, run and have ended."""
    old, new = services
    first = add(old)
    old.stages.go.set()
    old.start()
    wait_until(lambda: old.table.get_job(first.id).status is JobStatus.FAILED)
    old.stages.go.clear()
    jobs = [add(old) for _ in range(NUM_JOBS)]
    asyncio.run_coroutine_threadsafe(old.scheduler.start_waiting(), old.loop).result(_SOON_S)
    wait_until(lambda: len(old.stages.asked) == 5)
    new.start()
    time.sleep(1.2 * SHORT_LEASE_S)
    assert not new.stages.asked, "the new one waits while the old one is there"
    old.stop()
    wait_until(lambda: len(new.stages.asked) == 4)
    assert not old.election.is_leader and not old.scheduler._running
    old.loop.call_soon_threadsafe(old.stages.go.set)
    new.loop.call_soon_threadsafe(new.stages.go.set)
    wait_until(lambda: not new.table.unfinished_jobs())
    ended = {job.id: job for job in new.table.list_jobs(JobQuery(limit=99)).jobs}
    assert ended.keys() == {first.id, *(job.id for job in jobs)}
    messages = Counter(job.error.message for job in ended.values() if job.error is not None)
    assert messages == {f"{name}: expected sound, found none.": num for name, num in (("a", 1), ("b", NUM_JOBS))}
    assert Counter(new.stages.asked) == Counter(job.id for job in jobs), "each was run once"
