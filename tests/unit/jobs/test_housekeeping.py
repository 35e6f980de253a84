"""What housekeeping removes, and what it leaves alone."""

from __future__ import annotations

import asyncio
import os
import time
from datetime import timedelta
from unittest.mock import AsyncMock, Mock

import pytest

from config import JobConfig, PipelineConfig
from jobs.housekeeping import Housekeeping
from jobs.model.base import new_id, utc_now
from jobs.model.record import JobStatus
from jobs.segments.kept import KeptSegments
from jobs.sources.avatars import Avatars
from jobs.sources.backgrounds import Backgrounds
from storage.cues import open_cues
from storage.file_keys import avatar_folder, job_file_key, job_folder, result_key, segment_key, source_key
from storage.file_store import FileStore
from storage.job_table import JobTable
from telemetry.clock_steps import ClockSteps
from tests.unit.job_records import avatar_record, job_record
from tests.unit.jobs.no_stages import NoStages
from tests.unit.on_disk import on_disk
from tests.waiting import until

CONFIG = PipelineConfig()


def housekeeping_of(
    table: JobTable,
    files: FileStore,
    avatars: Avatars,
    limits: JobConfig = CONFIG.jobs,
    clock: ClockSteps | None = None,
) -> Housekeeping:
    backgrounds, segments = Backgrounds(CONFIG, NoStages(), table, files), KeptSegments(0, table, files)
    return Housekeeping(limits, table, files, avatars, backgrounds, segments, open_cues(CONFIG, files.stored), clock)


def test_a_finished_job_loses_its_segments_and_is_looked_at_once(
    files: FileStore, table: JobTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = Mock(side_effect=files.segment_bytes)
    monkeypatch.setattr(files, "segment_bytes", asked)
    avatars = Avatars(CONFIG, NoStages(), table, files)
    job = table.insert_job(job_record())
    for key in (segment_key(job.id, 0), result_key(job.id)):
        on_disk(files, key).write_bytes(b"film")
    for status in (JobStatus.RUNNING, JobStatus.SUCCEEDED):
        table.update_job(job.id, status=status)
    housekeeping = housekeeping_of(table, files, avatars)
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
    avatars = Avatars(CONFIG, NoStages(), table, files)
    housekeeping_of(table, files, avatars).sweep()
    cancelled = table.get_job(old.id)
    assert cancelled.status is JobStatus.CANCELLED and cancelled.error is not None
    assert "was not approved within" in cancelled.error.message
    assert not files.has(job_file_key(old.id)) and table.get_job(young.id).status is JobStatus.REVIEW


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
    looks = AsyncMock(side_effect=avatars.sweep)
    monkeypatch.setattr(avatars, "sweep", looks)
    limits = CONFIG.jobs.model_copy(update={"retention_s": 0.2})  # a period of 0.05 s
    ahead_s = 0.0
    housekeeping = housekeeping_of(table, files, avatars, limits, ClockSteps(lambda: time.monotonic() + ahead_s))
    ahead_s = step_s
    looking = asyncio.create_task(housekeeping.run())
    await until(lambda: looks.await_count >= 3)
    looking.cancel()
    await asyncio.gather(looking, return_exceptions=True)
    assert set(files.avatar_keys()) == {known, arriving} | ({orphan} if is_kept else set())
