"""The segments of finished jobs are kept within a budget, and the oldest go first."""

from __future__ import annotations

from jobs.model.record import JobRecord, JobStatus
from jobs.segments.kept import KeptSegments
from storage.file_keys import result_key, segment_key
from storage.file_store import FileStore
from storage.job_table import JobTable
from tests.unit.job_records import job_record
from tests.unit.on_disk import on_disk


def _ended(table: JobTable, files: FileStore, status: JobStatus = JobStatus.SUCCEEDED) -> JobRecord:
    """A job with two segments of 100 bytes and a result."""
    job = table.insert_job(job_record())
    for key in (segment_key(job.id, 0), segment_key(job.id, 1), result_key(job.id)):
        on_disk(files, key).write_bytes(bytes(100))
    for each in (JobStatus.RUNNING, status):
        table.update_job(job.id, status=each)
    return job


def _have_segments(files: FileStore, *jobs: JobRecord) -> list[bool]:
    return [files.has(segment_key(job.id, 0)) for job in jobs]


def test_sweep_deletes_the_oldest_until_the_rest_fits(table: JobTable, files: FileStore) -> None:
    first, second, third = (_ended(table, files) for _ in range(3))
    kept = KeptSegments(450, table, files)
    kept.sweep()
    assert _have_segments(files, first, second, third) == [False, True, True]
    assert files.has(result_key(first.id))
    fourth = _ended(table, files)
    kept.sweep()
    assert _have_segments(files, second, third, fourth) == [False, True, True]


def test_sweep_without_a_budget_keeps_none(table: JobTable, files: FileStore) -> None:
    job = _ended(table, files)
    KeptSegments(0, table, files).sweep()
    assert _have_segments(files, job) == [False]


def test_sweep_deletes_those_of_failed_jobs(table: JobTable, files: FileStore) -> None:
    job = _ended(table, files, JobStatus.FAILED)
    KeptSegments(1000, table, files).sweep()
    assert _have_segments(files, job) == [False]


def test_sweep_keeps_those_of_a_running_job(table: JobTable, files: FileStore) -> None:
    job = table.insert_job(job_record(status=JobStatus.RUNNING))
    on_disk(files, segment_key(job.id, 0)).write_bytes(bytes(100))
    kept = KeptSegments(0, table, files)
    kept.sweep()
    assert _have_segments(files, job) == [True] and not kept.evict_oldest()


def test_evict_oldest_deletes_one_job_at_a_time(table: JobTable, files: FileStore) -> None:
    first, second = _ended(table, files), _ended(table, files)
    kept = KeptSegments(1000, table, files)
    assert kept.evict_oldest() and _have_segments(files, first, second) == [False, True]
    assert kept.evict_oldest() and _have_segments(files, first, second) == [False, False]
    assert not kept.evict_oldest()
