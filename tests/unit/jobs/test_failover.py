"""Two schedulers on one PostgreSQL: the leader falls silent in the middle of its jobs, or ends in order."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from config import PipelineConfig
from errors import MediaError
from jobs.leadership import LeaderElection
from jobs.messages import PreparedSpeech
from jobs.model.record import JobQuery, JobRecord, JobStatus
from jobs.scheduler import JobScheduler
from jobs.segments.limiter import SegmentLimiter
from jobs.sources.avatars import Avatars
from storage.file_keys import job_file_key
from storage.file_store import FileStore
from storage.job_table import JobTable
from storage.postgres.database import Database
from telemetry.log_context import CallContext
from tests.postgres import PostgresServer
from tests.unit.job_records import job_record, job_services
from tests.unit.jobs.no_stages import NoStages
from tests.unit.on_disk import on_disk
from tests.waiting import wait_until

NUM_JOBS = 6
LEASE_S = 4.0  # the leader loses it where this process stands still for longer
_SOON_S = 60.0


class NamedStages(NoStages):
    """Every job fails at its first step, once `go` is set, with the name of the service that ran it."""

    def __init__(self, name: str) -> None:
        self.name, self.go = name, asyncio.Event()
        self.asked: list[str] = []

    async def prepare_speech(self, context: CallContext, *_: Any) -> PreparedSpeech:
        self.asked.append(context.job_id)
        await self.go.wait()
        raise MediaError(f"run by {self.name}")


class Service:
    """A Director's rules in a thread with an event loop of its own."""

    def __init__(self, name: str, url: str, folder: Path, asks: bool = False) -> None:
        self.loop = asyncio.new_event_loop()
        self.table, self.files, self.stages = JobTable(Database(url)), FileStore(folder), NamedStages(name)
        config = PipelineConfig(data_dir=folder)
        avatars = Avatars(config, self.stages, self.table, self.files)
        services = job_services(config, self.stages, avatars, self.table, self.files, SegmentLimiter(config))
        self.scheduler = JobScheduler(services, lambda: self.election.is_leader)
        request_handover_when = self.stages.ready if asks else None
        self.election = LeaderElection(
            self.table, name, self.scheduler.resume_unfinished, self.scheduler.stop_all, LEASE_S, request_handover_when
        )
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


@pytest.fixture
def services(
    request: pytest.FixtureRequest, postgres: PostgresServer, tmp_path: Path
) -> Iterator[tuple[Service, Service]]:
    url = postgres.new_database()
    both = Service("a", url, tmp_path), Service("b", url, tmp_path, asks=getattr(request, "param", False))
    yield both
    for service in both:
        service.end()


def add(service: Service) -> JobRecord:
    job = job_record()
    on_disk(service.files, job_file_key(job.id)).write_bytes(b"abc")
    return service.table.insert_job(job)


def test_no_job_is_lost_and_none_ends_twice(services: tuple[Service, Service]) -> None:
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
    assert {job.error.message for job in ended if job.error is not None} == {"run by b"}
    assert Counter(second.stages.asked) == Counter(job.id for job in jobs), "each was run once"
    assert not first.election.is_leader


@pytest.mark.parametrize("services", [False, True], ids=["stopped", "asked"], indirect=True)
def test_an_upgrade_runs_each_job_to_one_end(services: tuple[Service, Service], request: pytest.FixtureRequest) -> None:
    """The old service is stopped, or the new one asks it to hand over: with jobs that wait, run and have ended."""
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
    if request.node.callspec.id == "stopped":
        time.sleep(1.2 * LEASE_S)
        assert not new.stages.asked, "the new one waits for as long as the old one is there"
        old.stop()
    wait_until(lambda: len(new.stages.asked) == 4)
    assert not old.election.is_leader and not old.scheduler._running
    old.loop.call_soon_threadsafe(old.stages.go.set)
    new.loop.call_soon_threadsafe(new.stages.go.set)
    wait_until(lambda: not new.table.unfinished_jobs())
    ended = {job.id: job for job in new.table.list_jobs(JobQuery(limit=99)).jobs}
    assert ended.keys() == {first.id, *(job.id for job in jobs)}
    messages = Counter(job.error.message for job in ended.values() if job.error is not None)
    assert messages == {"run by a": 1, "run by b": NUM_JOBS}
    assert Counter(new.stages.asked) == Counter(job.id for job in jobs), "each was run once"
