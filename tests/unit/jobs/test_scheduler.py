"""The scheduler, its retries and housekeeping: how jobs end on a full disk, and which files are removed."""

from __future__ import annotations

import asyncio
import errno
import os
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from datetime import timedelta
from itertools import chain, repeat
from typing import Any
from unittest.mock import AsyncMock, Mock

import pytest

from lipwright.config import JobConfig, PipelineConfig
from lipwright.errors import KeyLimitError, LipwrightError, MediaError, StateError, StorageFullError
from lipwright.jobs import retry as retry_module
from lipwright.jobs.admission import AdmissionController, AdmitRequest
from lipwright.jobs.housekeeping import Housekeeping
from lipwright.jobs.key_limits import KeyPolicies, LimitChecks
from lipwright.jobs.messages import PreparedSpeech
from lipwright.jobs.model.base import new_id, utc_now
from lipwright.jobs.model.record import JobQuery, JobRecord, JobStage, JobStatus, JobSummary
from lipwright.jobs.retry import retry
from lipwright.jobs.run import JobRun
from lipwright.jobs.scheduler import JobScheduler
from lipwright.jobs.segments.kept import KeptSegments
from lipwright.jobs.sources.avatars import Avatars
from lipwright.jobs.sources.backgrounds import Backgrounds
from lipwright.jobs.upkeep import Upkeep
from lipwright.jobs.usage import StoredBytes
from lipwright.storage.cues import open_cues
from lipwright.storage.file_keys import (
    JOBS,
    avatar_folder,
    face_speech_key,
    job_file_key,
    job_folder,
    result_key,
    segment_key,
    segments_folder,
    source_key,
    speech_key,
)
from lipwright.storage.file_store import FileStore
from lipwright.storage.job_table import JobTable
from lipwright.storage.local.api_keys import FileKeyRing
from lipwright.storage.sqlite.database import Database
from lipwright.telemetry.clock_steps import ClockSteps
from lipwright.telemetry.log_context import CallContext
from tests.unit.job_records import avatar_record, job_record
from tests.unit.jobs.job_bench import JobBench
from tests.unit.jobs.no_stages import NoStages
from tests.unit.on_disk import on_disk
from tests.waiting import until

CONFIG = PipelineConfig(jobs=JobConfig(max_attempts=3))


class DeafStages(NoStages):
    """Every job fails at its first step, once `go` is set."""

    def __init__(self, sound: str = "a.wav") -> None:
        self.sound, self.go, self.asked = sound, asyncio.Event(), list[str]()

    async def prepare_speech(self, context: CallContext, *_: Any) -> PreparedSpeech:
        self.asked.append(context.job_id)
        await self.go.wait()
        raise MediaError(f"{self.sound}: expected sound, found none.")


class FillingTable(JobTable):
    """A table on a disk that is full at times."""

    is_full = False
    full_at: JobStage | None = None
    num_refused = 0

    def update_job(self, job_id: str, **fields: object) -> JobSummary:
        if self.is_full or (self.full_at is not None and fields.get("stage") is self.full_at):
            self.num_refused += 1
            raise StorageFullError("The disk of the job table is full.")
        return super().update_job(job_id, **fields)


class Bench(JobBench):
    """A scheduler over a real table and folder."""

    table: FillingTable

    def __init__(self, files: FileStore) -> None:
        self.stages = DeafStages()
        super().__init__(files, FillingTable(Database(files.table_path)), self.stages, CONFIG)
        self.table.database.claim()
        self.scheduler = JobScheduler(self.services)

    def add(self, is_joined: bool = False, owner: str | None = None) -> JobRecord:
        """A job with one segment, or with its result."""
        job = job_record(report={} if is_joined else None, owner=owner)
        for key in (job_file_key(job.id), segment_key(job.id, 0), *([result_key(job.id)] if is_joined else ())):
            on_disk(self.files, key).write_bytes(b"abc")
        return self.table.insert_job(job)

    def error_code(self, job: JobRecord) -> str | None:
        error = self.table.get_job(job.id).error
        return None if error is None else error.code

    async def run_out(self) -> list[BaseException | object]:
        """Let the running jobs end; gives what their tasks came to."""
        self.stages.go.set()
        return await asyncio.gather(*self.scheduler._running.values(), return_exceptions=True)


@pytest.fixture
def bench(files: FileStore) -> Iterator[Bench]:
    bench = Bench(files)
    yield bench
    bench.table.close()


async def test_scheduler_without_lease_touches_no_files(bench: Bench) -> None:
    job = bench.add()
    await bench.scheduler.start_waiting()
    await asyncio.sleep(0)
    Database(bench.files.table_path).claim()
    assert await bench.run_out() == [None]
    assert on_disk(bench.files, segment_key(job.id, 0)).is_file(), "the new Director works with it"
    assert bench.table.get_job(job.id).status is JobStatus.RUNNING


async def test_start_waiting_with_full_disk_leaves_jobs_queued(bench: Bench) -> None:
    job = bench.add()
    bench.table.is_full = True
    await bench.scheduler.start_waiting()
    assert bench.table.get_job(job.id).status is JobStatus.QUEUED
    bench.table.is_full = False
    await bench.scheduler.resume_unfinished()
    await bench.run_out()
    assert bench.error_code(job) == MediaError.code


async def test_running_job_waits_for_disk_space(bench: Bench) -> None:
    job = bench.add()
    bench.table.full_at = JobStage.PREPARING_AUDIO
    bench.stages.go.set()
    await bench.scheduler.start_waiting()
    await until(lambda: bench.table.num_refused >= 2)  # it tries again
    assert bench.table.get_job(job.id).status is JobStatus.RUNNING
    segments = on_disk(bench.files, segments_folder(job.id))
    assert segments.is_dir(), "what is finished is kept"
    bench.table.full_at = None
    await bench.run_out()
    assert bench.error_code(job) == MediaError.code
    assert bench.table.get_job(job.id).attempts == 1, "not restarted"


async def test_final_status_with_full_disk_is_stored_later(bench: Bench) -> None:
    job = bench.add(is_joined=True)
    await bench.scheduler.start_waiting()
    bench.table.is_full = True
    await bench.run_out()
    assert bench.table.get_job(job.id).status is JobStatus.RUNNING
    assert not on_disk(bench.files, segments_folder(job.id)).exists(), "they make room"
    bench.table.is_full = False
    await bench.scheduler.resume_unfinished()
    await bench.run_out()
    assert bench.table.get_job(job.id).status is JobStatus.SUCCEEDED


async def test_job_whose_row_cannot_be_read_fails_alone(bench: Bench) -> None:
    job, other = bench.add(), bench.add()
    with bench.table.database.transaction():
        bench.table.database.update("jobs", "id", job.id, {"plan": '{"options": {"newer": 1}}'})
    await bench.scheduler.resume_unfinished()
    await bench.run_out()
    assert bench.error_code(other) == MediaError.code
    os.utime(on_disk(bench.files, job_folder(job.id)), (time.time() - 7200,) * 2)
    housekeeping_of(bench.table, bench.files).sweep()
    unread = bench.table.known_job(job.id)
    assert unread is not None and unread.error is not None and unread.error.code == "internal"


async def test_stop_all_before_a_job_begins_frees_its_slot(bench: Bench) -> None:
    for _ in range(CONFIG.jobs.max_running_jobs):
        bench.add()
    await bench.scheduler.start_waiting()  # returns as soon as the task of the last job exists
    await bench.scheduler.stop_all()
    assert not bench.scheduler._running


async def test_job_cancelled_while_it_starts_does_not_run(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.add()
    update = bench.table.update_job

    def update_and_cancel(job_id: str, **fields: object) -> JobSummary:
        started = update(job_id, **fields)
        update(job_id, status=JobStatus.CANCELLED)
        return started

    monkeypatch.setattr(bench.table, "update_job", update_and_cancel)
    await bench.scheduler.start_waiting()
    assert not bench.scheduler._running


async def test_draft_with_full_disk_waits_for_space(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    async def speak(_: JobRun) -> JobStatus:
        await bench.stages.go.wait()
        return JobStatus.REVIEW

    monkeypatch.setattr(JobRun, "run", speak)
    job = bench.add()
    await bench.scheduler.start_waiting()
    bench.table.is_full = True
    bench.stages.go.set()
    await until(lambda: bench.table.num_refused >= 2)
    bench.table.is_full = False
    await bench.run_out()
    assert bench.table.get_job(job.id).status is JobStatus.REVIEW


async def test_upkeep_with_full_disk_frees_space_first(bench: Bench) -> None:
    def free_space() -> None:
        bench.table.is_full = False

    job = bench.add()
    bench.table.update_job(job.id, status=JobStatus.RUNNING)  # an earlier Director left it
    bench.table.is_full = True
    space, analyses = Mock(keep_free=AsyncMock(side_effect=free_space)), Mock(resume=AsyncMock(side_effect=ValueError))
    replicas, limiter = Mock(read=AsyncMock(return_value={})), bench.services.limiter
    upkeep = Upkeep(bench.scheduler, analyses, bench.admission, limiter, bench.table, space, replicas)
    working = asyncio.create_task(upkeep.run())
    await until(lambda: bench.scheduler._running and analyses.resume.called)
    assert not working.done(), "an avatar that cannot be read stops nothing else"
    working.cancel()


async def test_delete_removes_only_finished_jobs(bench: Bench) -> None:
    job = bench.add()
    with pytest.raises(StateError, match="queued"):
        await bench.scheduler.delete(job)
    await bench.scheduler.start_waiting()
    await asyncio.sleep(0)
    with pytest.raises(StateError, match="running"):
        await bench.scheduler.delete(bench.table.get_job(job.id))
    await bench.scheduler.cancel(bench.table.get_job(job.id))
    # Its work is still ending: the files go when nobody writes them any more.
    await bench.scheduler.delete(bench.table.get_job(job.id))
    assert not bench.scheduler._running
    assert bench.table.list_jobs(JobQuery(limit=9)).jobs == []
    assert bench.files.job_ids() == []


@pytest.mark.parametrize(("max_revision_bytes", "is_kept"), [(1, True), (0, False)])
async def test_job_that_succeeded_keeps_segments_for_revisions(
    bench: Bench, max_revision_bytes: int, is_kept: bool
) -> None:
    bench.scheduler._limits = CONFIG.jobs.model_copy(update={"max_revision_bytes": max_revision_bytes})
    job = bench.add(is_joined=True)
    for key in (speech_key(job.id), face_speech_key(job.id, 0)):
        on_disk(bench.files, key).write_bytes(b"speech")
    await bench.scheduler.start_waiting()
    await bench.run_out()
    assert bench.table.get_job(job.id).status is JobStatus.SUCCEEDED
    assert bench.files.has(segment_key(job.id, 0)) is is_kept
    assert not bench.files.has(speech_key(job.id)) and not bench.files.has(face_speech_key(job.id, 0))


LIMITS = JobConfig(max_attempts=3, max_disk_wait_s=0.2)
FULL = StorageFullError("The disk of the job table is full.")


def failing(*errors: Exception) -> AsyncMock:
    """Work that raises one error after the other, and then returns."""
    return AsyncMock(side_effect=[*errors, "done"])


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry_module, "_PAUSE_S", 0.001)
    monkeypatch.setattr(retry_module, "_FIRST_DISK_PAUSE_S", 0.01)
    monkeypatch.setattr(retry_module, "_MAX_DISK_PAUSE_S", 0.02)


@pytest.mark.parametrize(
    "error", [FULL, OSError(errno.ENOSPC, "No space left on device"), ExceptionGroup("segments", [FULL])]
)
async def test_work_continues_once_there_is_space(error: Exception) -> None:
    assert await retry(failing(*[error] * 8), LIMITS) == "done", "more often than `max_attempts`"


async def test_work_fails_when_the_disk_stays_full() -> None:
    work = failing(*[FULL] * 99)
    message = r"job table is full\. Waited .* jobs\.max_disk_wait_s.* Free disk"
    with pytest.raises(StorageFullError, match=message) as caught:
        await retry(work, LIMITS)
    assert caught.value.was_retried
    assert 10 <= work.call_count <= 13, "pauses of 0.01 and 0.02 s, 0.2 s together"


async def test_a_full_disk_uses_up_no_attempts() -> None:
    defect = SystemError("AST constructor recursion depth mismatch")
    assert await retry(failing(defect, FULL, FULL, FULL, defect), LIMITS) == "done"
    with pytest.raises(LipwrightError, match="failed 3 times"):
        await retry(failing(defect, FULL, defect, defect), LIMITS)


@pytest.mark.parametrize("error", [MediaError("a.mp4: expected video"), StorageFullError("a wait", was_retried=True)])
async def test_rejected_input_or_a_wait_inside_is_not_repeated(error: LipwrightError) -> None:
    work = failing(ExceptionGroup("segments", [error]))
    with pytest.raises(type(error), match=str(error)):
        await retry(work, LIMITS)
    assert work.call_count == 1


async def test_admit_of_short_jobs_ends_at_stored_bytes(bench: Bench) -> None:
    ring, stored = FileKeyRing(bench.files.root), StoredBytes(bench.table, bench.files)
    owner = ring.add("key")[0].id
    ring.update(owner, None, {"stored_bytes": 29})  # three jobs with sound, segment and result of 3 bytes each
    checks = LimitChecks(KeyPolicies(ring).limits_of, bench.table, stored)
    admission = AdmissionController(CONFIG, bench.table, bench.files, checks=checks)
    bench.stages.go.set()

    async def submit() -> JobRecord | None:
        checks.measure(owner)
        try:
            admitted = admission.admit(AdmitRequest(owner=owner, num_bytes=3, max_bytes=3, is_job=True))
        except KeyLimitError:
            return None
        job = bench.add(is_joined=True, owner=owner)
        admission.release(admitted.id)
        await bench.scheduler.start_waiting()
        await bench.run_out()
        return bench.table.get_job(job.id)

    jobs = [job for _ in range(20) if (job := await submit()) is not None]
    assert [job.status for job in jobs] == [JobStatus.SUCCEEDED] * 3
    assert stored.of(owner) == sum(state.num_bytes for state in bench.files.stored.states(JOBS).values()) == 27
    KeptSegments(0, bench.table, bench.files).sweep()
    assert stored.of(owner) == 18, "the segments are evicted"
    await bench.scheduler.delete(jobs[0])
    assert stored.of(owner) == 12
    assert await submit() is not None


async def test_cancel_frees_the_stored_bytes_of_the_job(bench: Bench) -> None:
    job = bench.table.insert_job(job_record(owner="a", stored_bytes=3))
    stored = StoredBytes(bench.table, bench.files)
    assert stored.of("a") == 3
    await bench.scheduler.cancel(job)
    assert stored.of("a") == 0


def housekeeping_of(
    table: JobTable, files: FileStore, avatars: Avatars | None = None, clock: ClockSteps | None = None, **changes: Any
) -> Housekeeping:
    stages, limits = NoStages(), CONFIG.jobs.model_copy(update=changes)
    avatars = avatars or Avatars(CONFIG, stages, table, files)
    backgrounds, segments = Backgrounds(CONFIG, stages, table, files), KeptSegments(0, table, files)
    return Housekeeping(limits, table, files, avatars, backgrounds, segments, open_cues(CONFIG, files.stored), clock)


def test_a_finished_job_loses_its_segments_and_is_looked_at_once(
    files: FileStore, table: JobTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = Mock(side_effect=files.segment_bytes)
    monkeypatch.setattr(files, "segment_bytes", asked)
    job = table.insert_job(job_record())
    for key in (segment_key(job.id, 0), result_key(job.id)):
        on_disk(files, key).write_bytes(b"film")
    for status in (JobStatus.RUNNING, JobStatus.SUCCEEDED):
        table.update_job(job.id, status=status)
    housekeeping = housekeeping_of(table, files)
    for _ in range(3):
        os.utime(on_disk(files, job_folder(job.id)), (time.time() - 7200,) * 2)
        housekeeping.sweep()
    assert not files.has(segment_key(job.id, 0)) and files.has(result_key(job.id))
    assert asked.call_count == 1


def test_sweep_cancels_job_in_review_after_retention(files: FileStore, table: JobTable) -> None:
    limit = timedelta(seconds=CONFIG.jobs.retention_s)
    old, young = (table.insert_job(job_record(status=JobStatus.REVIEW)) for _ in range(2))
    table.update_job(old.id, reviewed_at=utc_now() - limit)
    table.update_job(young.id, reviewed_at=utc_now() - limit / 2)
    on_disk(files, job_file_key(old.id)).write_bytes(b"sound")
    housekeeping_of(table, files).sweep()
    cancelled = table.get_job(old.id)
    assert cancelled.status is JobStatus.CANCELLED and cancelled.error is not None
    assert "was not approved within" in cancelled.error.message
    assert not files.has(job_file_key(old.id)) and table.get_job(young.id).status is JobStatus.REVIEW


def test_sweep_of_job_in_review_excludes_its_approval(
    files: FileStore, table: JobTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    job, unfinished = table.insert_job(job_record(status=JobStatus.REVIEW)), table.unfinished_jobs
    table.update_job(job.id, reviewed_at=utc_now() - timedelta(seconds=CONFIG.jobs.retention_s))
    with ThreadPoolExecutor(1) as pool:
        approvals: list[Future[JobSummary]] = []

        def found() -> list[JobSummary]:
            jobs = unfinished()
            approvals.append(pool.submit(table.update_job, job.id, status=JobStatus.QUEUED))
            wait(approvals, timeout=0.2)
            return jobs

        monkeypatch.setattr(table, "unfinished_jobs", found)
        housekeeping_of(table, files).sweep()
        assert approvals[0].result().status is JobStatus.CANCELLED, "it came too late for the job in review"


@pytest.mark.parametrize(("step_s", "is_kept"), [(3600.0, True), (0.0, False), (-3600.0, False)])
async def test_files_that_only_look_old_are_kept(
    files: FileStore, table: JobTable, monkeypatch: pytest.MonkeyPatch, step_s: float, is_kept: bool
) -> None:
    """Every file looks an hour older when the clock is set forward, also one that is being written."""
    known, orphan, arriving = (new_id() for _ in range(3))
    for key in (known, orphan, arriving):
        on_disk(files, source_key(key)).write_bytes(b"film")
    for key in (known, orphan):
        os.utime(on_disk(files, avatar_folder(key)), (time.time() - 7200,) * 2)
    table.put_avatar(avatar_record(known))
    avatars = Avatars(CONFIG, NoStages(), table, files)
    looks = AsyncMock(side_effect=chain([ValueError("a row of another version")], repeat(None)))
    monkeypatch.setattr(avatars, "sweep", looks)
    ahead_s = 0.0
    clock = ClockSteps(lambda: time.monotonic() + ahead_s)
    housekeeping = housekeeping_of(table, files, avatars, clock, retention_s=0.2)  # a period of 0.05 s
    ahead_s = step_s
    looking = asyncio.create_task(housekeeping.run())
    await until(lambda: looks.await_count >= 3)
    looking.cancel()
    await asyncio.gather(looking, return_exceptions=True)
    assert set(files.avatar_keys()) == {known, arriving} | ({orphan} if is_kept else set())
