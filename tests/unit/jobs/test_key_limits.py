"""The limits of API keys at admission: each is checked before a body is read."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from config import PipelineConfig
from errors import KeyLimitError
from jobs.admission import AdmissionController, AdmitRequest
from jobs.key_limits import KeyPolicies, LimitChecks
from jobs.model.base import utc_now
from jobs.model.record import JobRecord, JobStatus
from jobs.model.usage import LiveUsage, Usage
from jobs.usage import StoredBytes, usage_rows
from storage.file_keys import job_file_key, source_key, voice_folder
from storage.file_store import FileStore
from storage.job_table import JobTable
from storage.local.api_keys import FileKeyRing
from storage.sqlite.database import Database
from tests.unit.job_records import avatar_record, job_record
from tests.unit.on_disk import on_disk

MIB = 1024**2
CONFIG = PipelineConfig.model_validate({"jobs": {"min_free_bytes": 0}})


class Bench:
    """An admission with two keys, of which the test limits the first."""

    def __init__(self, root: Path) -> None:
        self.files = FileStore(root)
        self.table = JobTable(Database(self.files.table_path))
        self.ring = FileKeyRing(root)
        self.owner, self.other = (self.ring.add(name)[0].id for name in ("first", "second"))
        self.now = utc_now()
        self.stored = StoredBytes(self.table, self.files)
        policies = KeyPolicies(self.ring)
        self.checks = LimitChecks(policies.limits_of, self.table, self.stored, lambda: self.now)
        self.admission = AdmissionController(CONFIG, self.table, self.files, checks=self.checks)

    def limit(self, **limits: int | None) -> None:
        self.ring.update(self.owner, None, limits)

    def admit(
        self, owner: str | None = None, num_bytes: int | None = 10, is_job: bool = True, max_bytes: int = 1000
    ) -> str:
        request = AdmitRequest(owner=owner or self.owner, num_bytes=num_bytes, max_bytes=max_bytes, is_job=is_job)
        return self.admission.admit(request).id

    def add(self, status: JobStatus = JobStatus.QUEUED, **fields: Any) -> JobRecord:
        job = self.table.insert_job(job_record(owner=self.owner, **fields))
        if status is not JobStatus.QUEUED:
            self.table.update_job(job.id, status=status)
        return job

    def refused(self, name: str, value: int, **request: object) -> float:
        """Return after how many seconds the next request may come, which others need not wait for."""
        with pytest.raises(KeyLimitError, match=rf"^The limit {name} of this API key is {value}; ") as caught:
            self.admit(**request)  # type: ignore[arg-type]
        assert (caught.value.status_code, caught.value.code) == (429, "key_limit_reached")
        self.admission.release(self.admit(self.other))
        return caught.value.retry_after_s


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path)
    yield bench
    bench.table.close()


def test_admit_over_concurrent_jobs_is_refused(bench: Bench) -> None:
    bench.limit(concurrent_jobs=3)
    bench.add(JobStatus.REVIEW)
    done, _ = bench.add(), bench.add(JobStatus.RUNNING)
    place = bench.admit()
    assert bench.refused("concurrent_jobs", 3) == 60
    bench.admit(is_job=False)  # an avatar
    bench.admission.release(place)
    place = bench.admit()
    bench.table.update_job(done.id, status=JobStatus.SUCCEEDED)
    bench.admit()
    bench.admission.grow_reservation(AdmitRequest(owner=bench.owner, num_bytes=None, max_bytes=1000), place)
    assert bench.refused("concurrent_jobs", 3) == 60, "a body that names URLs is still a job"
    bench.limit(concurrent_jobs=None)
    bench.admit()


def test_admit_over_jobs_per_day_is_refused_until_midnight(bench: Bench) -> None:
    bench.limit(jobs_per_day=2)
    job = bench.add(JobStatus.SUCCEEDED)
    bench.table.delete_job(job.id)
    bench.add(JobStatus.FAILED)
    bench.now = bench.now.replace(hour=21, minute=59, second=30, microsecond=0)
    assert bench.refused("jobs_per_day", 2) == 2 * 3600 + 30
    bench.now += timedelta(hours=3)
    bench.admit()


@pytest.mark.parametrize(
    ("now", "days_left"), [(datetime(2031, 12, 30, tzinfo=UTC), 2), (datetime(2032, 2, 1, tzinfo=UTC), 29)]
)
def test_admit_over_video_seconds_is_refused_until_next_month(bench: Bench, now: datetime, days_left: int) -> None:
    bench.limit(video_seconds_per_month=100)
    with bench.table.database.transaction():
        bench.table.usage.add(bench.owner, Usage(video_seconds=70))
        bench.table.database.execute("UPDATE usage SET day = ?1", now.date().isoformat())
    bench.now = now
    bench.admission.release(bench.admit())
    bench.add(result_seconds=60.0, progress=0.5)
    assert bench.refused("video_seconds_per_month", 100) == days_left * 86400
    bench.now += timedelta(days=days_left)
    bench.admit()


def test_admit_over_stored_bytes_is_refused(bench: Bench) -> None:
    job = bench.add(JobStatus.SUCCEEDED)
    avatar = bench.table.put_avatar(avatar_record(owner=bench.owner))
    for key, num_bytes in (
        (job_file_key(job.id), 300),
        (source_key(avatar.key), 200),
        (f"{voice_folder(bench.owner, 'anna')}/sample.wav", 100),
        (job_file_key("0" * 32), 50_000),  # without a row
        (f"{voice_folder(bench.other, 'anna')}/sample.wav", 50_000),  # of another key
    ):
        on_disk(bench.files, key).write_bytes(bytes(num_bytes))
    bench.checks.measure(bench.owner)
    assert not bench.stored.by_owner, "there is no limit"
    bench.limit(stored_bytes=1000)
    bench.checks.measure(bench.owner)
    assert bench.stored.by_owner == {bench.owner: 600}
    place = bench.admit(num_bytes=400, is_job=False)
    assert bench.refused("stored_bytes", 1000, num_bytes=1, is_job=False) == 60
    bench.admission.release(place)
    bench.add(upload_bytes=150)  # after the measurement
    assert bench.refused("stored_bytes", 1000, num_bytes=251) == 60
    bench.limit(stored_bytes=40 * MIB)
    place = bench.admit(num_bytes=None, max_bytes=100 * MIB)
    assert bench.admission.extend(place, 32 * MIB) == 64 * MIB
    with pytest.raises(KeyLimitError, match=f"with this upload, {40 * MIB + 750} bytes would be stored"):
        bench.admission.extend(place, 40 * MIB)
    rows = usage_rows(bench.table, bench.stored, None, None, None)
    assert {row.key: row.stored_bytes for row in rows} == {bench.owner: 600}


def test_check_live_over_live_sessions_is_refused(bench: Bench) -> None:
    def start(session_id: str, owner: str) -> None:
        usage = LiveUsage(session_id=session_id, owner=owner)
        bench.table.usage.record_live(usage, lambda: bench.checks.check_live(owner))

    bench.limit(live_sessions=1)
    start("1", bench.owner)
    with pytest.raises(KeyLimitError, match="^The limit live_sessions of this API key is 1; live sessions: 1"):
        start("2", bench.owner)
    start("3", bench.other)
    bench.table.usage.record_live(LiveUsage(session_id="1", owner=bench.owner, is_over=True), lambda: None)
    start("2", bench.owner)


def test_key_without_new_fields_has_weight_one_and_no_limits(bench: Bench) -> None:
    path = bench.files.root / "api_keys.json"
    keys = json.loads(path.read_text())["keys"]
    old = [{name: key[name] for name in ("id", "name", "hash", "created_at", "max_priority")} for key in keys]
    path.write_text(json.dumps({"keys": old}))
    policies = KeyPolicies(FileKeyRing(bench.files.root))
    assert policies.weight_of(bench.owner) == policies.weight_of(None) == policies.weight_of("revoked") == 1
    assert policies.limits_of(bench.owner) == policies.limits_of(None)
    bench.ring.update(bench.owner, 7, {"live_sessions": 0})
    assert (policies.weight_of(bench.owner), policies.weight_of(bench.other)) == (7, 1)
    assert policies.last_weight_of(bench.owner) == 7 and policies.last_weight_of("unknown") == 1
    bench.ring.update(bench.owner, None, {"stored_bytes": 5})
    limits = policies.limits_of(bench.owner).model_dump(exclude_none=True)
    assert (policies.weight_of(bench.owner), limits) == (7, {"live_sessions": 0, "stored_bytes": 5})
    path.write_text("{")
    assert policies.weight_of(bench.owner) == 1, "jobs run on"
