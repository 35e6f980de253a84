"""What the Director asks at every turn costs as much beside thousands of finished jobs as beside none."""

from __future__ import annotations

import timeit
from collections.abc import Callable, Iterator
from functools import partial

import pytest

from jobs.model.record import JobRecord, JobStatus
from storage.job_table import JobTable
from storage.postgres.database import Database as SharedDatabase
from storage.protocols import Database
from storage.sqlite.database import Database as FileDatabase
from tests.unit.job_records import job_record

NUM_FINISHED, NUM_QUEUED, NUM_RUNNING = 20_000, 64, 8
NUM_LOOKS = 15  # at each in turn, and the fastest counts: others are at work on this machine
MAX_RATIO = 5.0  # a queue that looks at what has ended: 250 in SQLite, 15 in PostgreSQL

LOOKS: dict[str, Callable[[JobTable], object]] = {
    "the queue": JobTable.queued_jobs,
    "a waiting job": lambda table: table.get_job(table.unfinished_jobs()[-1].id),
    "unfinished jobs": JobTable.unfinished_jobs,
    "the last successes": lambda table: table.last_succeeded(20),
}


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def databases(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Database, Database]]:
    """Two with the same waiting and running jobs, the second with thousands that have ended."""
    if request.param == "sqlite":
        folder = tmp_path_factory.mktemp("tables")
        both: tuple[Database, Database] = FileDatabase(folder / "few.sqlite3"), FileDatabase(folder / "many.sqlite3")
    else:
        server = request.getfixturevalue("postgres")
        both = SharedDatabase(server.new_database()), SharedDatabase(server.new_database())
    for database, num_finished in zip(both, (40, NUM_FINISHED), strict=True):
        _fill(database, num_finished)
    yield both
    for database in both:
        database.close()


def _fill(database: Database, num_finished: int) -> None:
    """Jobs of two owners, finished ones first."""
    table = JobTable(database)
    for owner in ("many", "few"):
        job = table.insert_job(job_record(owner=owner))
        table.update_job(job.id, status=JobStatus.RUNNING)
        table.update_job(job.id, status=JobStatus.SUCCEEDED)
        columns = ", ".join(JobRecord.model_fields.keys() - {"id", "queue_position", "callback"})
        numbers = f"SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < {num_finished // 2}"
        copies = f"SELECT id || '-' || n, {columns} FROM jobs, numbers WHERE id = ?1"
        copy = f"WITH RECURSIVE numbers (n) AS ({numbers}) INSERT INTO jobs (id, {columns}) {copies}"
        with database.transaction():
            database.execute(copy, job.id)
    for number in range(NUM_RUNNING + NUM_QUEUED):
        job = table.insert_job(job_record(owner="many" if number % 2 else "few"))
        if number < NUM_RUNNING:
            table.update_job(job.id, status=JobStatus.RUNNING)


@pytest.mark.parametrize("what", LOOKS)
def test_finished_jobs_cost_the_queue_nothing(databases: tuple[Database, Database], what: str) -> None:
    few, many = (JobTable(database) for database in databases)
    assert few.count_jobs(JobStatus.QUEUED) == many.count_jobs(JobStatus.QUEUED) == NUM_QUEUED
    assert many.count_jobs(JobStatus.SUCCEEDED) > NUM_FINISHED
    timers = [timeit.Timer(partial(LOOKS[what], table)) for table in (few, many)]
    took = [[timer.timeit(1) for timer in timers] for _ in range(NUM_LOOKS)]
    few_s, many_s = map(min, zip(*took, strict=True))
    print(f"\n{what}: {few_s * 1000:.1f} ms, beside {NUM_FINISHED} finished jobs {many_s * 1000:.1f} ms")
    assert many_s < MAX_RATIO * few_s
