"""Admission: places kept for bodies on their way, limits of API keys, and what finished jobs say about the next."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from typing import Any

import pytest

from lipwright.config import JobConfig, PipelineConfig
from lipwright.errors import CapacityError, InProgressError, KeyLimitError, StorageFullError
from lipwright.jobs.admission import AdmissionController, AdmitRequest
from lipwright.jobs.forecast import forecast, result_bytes
from lipwright.jobs.key_limits import KeyPolicies, LimitChecks
from lipwright.jobs.messages import OutputPicture
from lipwright.jobs.model.base import utc_now
from lipwright.jobs.model.job_settings import JobSettings
from lipwright.jobs.model.record import JobRecord, JobStatus
from lipwright.jobs.model.usage import LiveUsage, Usage
from lipwright.jobs.usage import StoredBytes, usage_rows
from lipwright.storage.file_keys import background_folder, source_key, voice_folder
from lipwright.storage.file_store import FileStore
from lipwright.storage.job_table import JobTable
from lipwright.storage.local.api_keys import FileKeyRing
from tests.unit.job_records import SOUND, avatar_record, job_record
from tests.unit.jobs.job_bench import CONFIG
from tests.unit.media.clips import info_of
from tests.unit.on_disk import on_disk

MIB = 1024**2


class Bench:
    """An admission over a real table and folder, with a clock that the test moves."""

    def __init__(self, files: FileStore, table: JobTable, min_free_bytes: int = 0) -> None:
        limits = {"max_running_jobs": 1, "max_queued_jobs": 4, "max_queued_bytes": 100 * MIB}
        jobs = JobConfig.model_validate({**limits, "min_free_bytes": min_free_bytes})
        self.table, self.now = table, 0.0
        self.admission = AdmissionController(PipelineConfig(jobs=jobs), table, files, lambda: self.now)

    def add(self, status: JobStatus = JobStatus.QUEUED, **fields: Any) -> JobRecord:
        audio = SOUND.model_copy(update={"num_bytes": MIB})
        return self.table.insert_job(job_record(audio=audio, status=status, **fields))


@pytest.fixture
def bench(files: FileStore, table: JobTable) -> Bench:
    return Bench(files, table)


def asking(num_bytes: int | None = MIB, **fields: object) -> AdmitRequest:
    return AdmitRequest.model_validate({"num_bytes": num_bytes, "max_bytes": 50 * MIB, **fields})


def retry_after(bench: Bench) -> float | None:
    """The time after which one more may come."""
    with pytest.raises(CapacityError) as caught:
        bench.admission.admit(asking())
    return caught.value.retry_after_s


def test_the_queue_counts_bodies_on_their_way(bench: Bench) -> None:
    bench.add(JobStatus.RUNNING)
    for _ in range(2):
        bench.add()
    kept = [bench.admission.admit(asking()) for _ in range(2)]
    assert len({one.id for one in kept}) == 2
    with pytest.raises(CapacityError, match="4 jobs are waiting; the limit is 4"):
        bench.admission.admit(asking())
    bench.admission.release(kept[0].id)
    bench.admission.release(kept[0].id)
    bench.admission.admit(asking())
    with pytest.raises(CapacityError):
        bench.admission.admit(asking())
    for job in bench.table.unfinished_jobs():
        bench.table.update_job(job.id, status=JobStatus.QUEUED)
    bench.admission.release(kept[1].id)
    bench.admission.admit(asking())  # one of the five starts at once


def test_a_place_that_nobody_uses_is_free_again(bench: Bench) -> None:
    bench.add(JobStatus.RUNNING)
    kept = [bench.admission.admit(asking()) for _ in range(4)]
    bench.now = 100.0
    bench.admission.extend(kept[0].id, 1000)
    bench.now = 400.0
    assert bench.admission.holds(kept[0].id), "a body that was heard of not long ago"
    assert not bench.admission.holds(kept[1].id)
    bench.now += 1000.0
    assert not bench.admission.holds(kept[0].id)
    bench.admission.admit(asking())


def test_retry_after_is_when_a_running_job_ends(bench: Bench) -> None:
    now = utc_now()
    done = bench.add(result_seconds=60.0)
    bench.table.update_job(done.id, status=JobStatus.RUNNING, started_at=now - timedelta(seconds=20))
    bench.table.update_job(done.id, status=JobStatus.SUCCEEDED, finished_at=now)  # three seconds a second
    bench.add(JobStatus.RUNNING, result_seconds=90.0, progress=0.5)
    for _ in range(4):
        bench.add()
    assert retry_after(bench) == pytest.approx(45 / 3)


def test_a_body_holds_what_is_here_and_a_little_more(bench: Bench) -> None:
    bench.add(JobStatus.RUNNING)
    idle = bench.admission.admit(asking(90 * MIB))
    assert (idle.max_bytes, idle.granted_bytes, bench.admission.state().num_bytes) == (90 * MIB, 32 * MIB, 32 * MIB)
    large = bench.admission.admit(asking(60 * MIB))
    assert bench.admission.extend(large.id, 25 * MIB) == 57 * MIB
    assert bench.admission.extend(large.id, 50 * MIB) == 60 * MIB, "at most what it declared"
    assert bench.admission.state().num_bytes == 92 * MIB
    with pytest.raises(CapacityError, match=f"needs {57 * MIB} bytes, and {60 * MIB} of {100 * MIB}"):
        bench.admission.extend(idle.id, 25 * MIB)
    assert bench.admission.state().num_bytes == 92 * MIB, "a reservation that cannot grow stays as it is"
    bench.admission.release(large.id)
    assert bench.admission.extend(idle.id, 25 * MIB) == 57 * MIB
    assert bench.admission.extend("nobody's", 25 * MIB) > 25 * MIB, "of a Director that is gone"


def test_bytes_are_bounded_and_granted(bench: Bench) -> None:
    bench.add(JobStatus.RUNNING)
    full = bench.admission.admit(asking(90 * MIB))
    assert full.max_bytes == 90 * MIB
    bench.admission.extend(full.id, 89 * MIB)
    rest = bench.admission.admit(asking(None))
    assert rest.max_bytes == 10 * MIB // 4, "who does not say how much gets a share of what is left"
    with pytest.raises(CapacityError, match=f"needs {8 * MIB} bytes, and"):
        bench.admission.admit(asking(8 * MIB))
    bench.admission.release(rest.id)
    assert bench.admission.admit(asking(8 * MIB)).max_bytes == 8 * MIB
    assert bench.admission.state().num_bytes == 98 * MIB
    assert bench.admission.admit(asking(0)).max_bytes == 1, "an empty body is refused for what it is, later"


def test_one_key_has_a_share_of_the_bytes(bench: Bench) -> None:
    bench.add(JobStatus.RUNNING)
    first = bench.admission.admit(asking(40 * MIB, owner="a"))
    bench.admission.extend(first.id, 35 * MIB)
    with pytest.raises(CapacityError, match=f"{20 * MIB} bytes, .* taken {40 * MIB} of its {50 * MIB}"):
        bench.admission.admit(asking(20 * MIB, owner="a"))
    bench.admission.admit(asking(20 * MIB, owner="b"))


def test_retry_after_is_when_a_body_is_here(bench: Bench) -> None:
    kept = [bench.admission.admit(asking(MIB)) for _ in range(5)]  # one of the five would start at once
    assert retry_after(bench) == 20, "nothing has come yet: they are cut off, or go on, in the pause they may make"
    bench.admission.release(kept.pop().id)
    bench.add(JobStatus.RUNNING, result_seconds=500.0)
    bench.now = 15.0
    bench.admission.extend(kept[0].id, MIB // 4)
    bench.admission.extend(kept[1].id, 1000)
    assert retry_after(bench) == 20, "45 s for the first one, the others are too slow"
    for one in kept[1:]:
        bench.admission.extend(one.id, MIB // 4)
    assert retry_after(bench) == 45


def test_an_idempotency_key_names_its_job(bench: Bench) -> None:
    same = asking(owner="a", idempotency_key="k")
    first = bench.admission.admit(same)
    assert first.job is None
    with pytest.raises(InProgressError, match="being received"):
        bench.admission.admit(same)
    bench.admission.grow_reservation(asking(None, owner="a"), first.id)
    with pytest.raises(InProgressError, match="being received"):
        bench.admission.admit(same)
    bench.admission.admit(asking(owner="b", idempotency_key="k"))
    bench.admission.release(first.id)
    job = bench.add(owner="a", idempotency_key="k")
    again = bench.admission.admit(same)
    assert again.job is not None and again.job.id == job.id
    assert again.max_bytes == MIB and again.timeout_s >= 60, "its body is read and compared"
    assert bench.admission.state().num_arriving == 1, "no bench is kept for a job that is there"


def test_a_disk_that_would_not_hold_it_is_noticed(files: FileStore, table: JobTable) -> None:
    free = files.stored.free_bytes()
    assert free is not None
    bench = Bench(files, table, min_free_bytes=free // 2)
    bench.admission.check_disk(free // 4)
    promised = bench.add(disk_bytes=free)  # other programs may delete files meanwhile
    with pytest.raises(StorageFullError, match="beside what other jobs will need"):
        bench.admission.check_disk(free // 4)
    with pytest.raises(StorageFullError):
        bench.admission.admit(asking())
    bench.table.update_job(promised.id, status=JobStatus.RUNNING, progress=0.99)
    bench.admission.admit(asking())


def test_a_body_that_names_urls_gets_a_wider_place(bench: Bench) -> None:
    bench.add(JobStatus.RUNNING)
    for _ in range(3):
        bench.add()
    kept = bench.admission.admit(asking(1000))
    wide = bench.admission.grow_reservation(asking(None), kept.id)
    assert (wide.id, wide.max_bytes) == (kept.id, (100 - 3) * MIB // 4), "a full queue does not count its own bench"
    assert bench.admission.state().num_arriving == 1
    with pytest.raises(CapacityError):
        bench.admission.grow_reservation(asking(100 * MIB), kept.id)
    assert bench.admission.state().num_bytes == 3 * MIB + wide.max_bytes, "a failed widening changes nothing"


def test_check_approval_of_full_queue_or_disk_is_refused(bench: Bench, files: FileStore, table: JobTable) -> None:
    bench.add(JobStatus.RUNNING)
    draft = bench.add(JobStatus.REVIEW, disk_bytes=10 * MIB, owner="a")
    bench.admission.check_approval(draft)
    bench.add(owner="a")
    place = bench.admission.admit(asking(owner="a"))
    with pytest.raises(CapacityError, match="2 jobs of this key are waiting; the limit is 2"):
        bench.admission.check_approval(draft)
    bench.admission.release(place.id)
    bench.admission.check_approval(draft)
    free = files.stored.free_bytes()
    assert free is not None
    large = bench.add(JobStatus.REVIEW, disk_bytes=2 * free)
    with pytest.raises(StorageFullError, match=f"needs {2 * free} bytes"):
        bench.admission.check_approval(large)
    for _ in range(3):
        bench.add()
    with pytest.raises(CapacityError, match="4 jobs are waiting; the limit is 4"):
        bench.admission.check_approval(draft)


def test_one_key_has_a_share_of_jobs_and_avatars(bench: Bench) -> None:
    bench.add(JobStatus.RUNNING, owner="a")
    bench.add(owner="a")
    place = bench.admission.admit(asking(owner="a"))
    with pytest.raises(CapacityError, match="2 jobs of this key are waiting; the limit is 2"):
        bench.admission.admit(asking(owner="a"))
    bench.admission.release(place.id)
    for number in range(2):
        bench.table.put_avatar(avatar_record(pinned=number == 0, analyse_on_create=True, owner="a"))
    with pytest.raises(CapacityError, match="3 jobs of this key are waiting; the limit is 2"):
        bench.admission.admit(asking(owner="a"))
    bench.admission.admit(asking(owner="b"))
    with pytest.raises(CapacityError, match="4 jobs are waiting; the limit is 4"):
        bench.admission.admit(asking(owner="c"))


class KeyBench:
    """An admission with two keys, of which the test limits the first."""

    def __init__(self, files: FileStore, table: JobTable) -> None:
        self.files, self.table, self.ring, self.now = files, table, FileKeyRing(files.root), utc_now()
        self.owner, self.other = (self.ring.add(name)[0].id for name in ("first", "second"))
        self.stored = StoredBytes(table, files)
        self.checks = LimitChecks(KeyPolicies(self.ring).limits_of, table, self.stored, lambda: self.now)
        self.admission = AdmissionController(CONFIG, table, files, checks=self.checks)

    def limit(self, **limits: int | None) -> None:
        self.ring.update(self.owner, None, limits)

    def admit(self, owner: str | None = None, **fields: object) -> str:
        request = {"owner": owner or self.owner, "num_bytes": 10, "max_bytes": 1000, "is_job": True, **fields}
        return self.admission.admit(AdmitRequest.model_validate(request)).id

    def add(self, status: JobStatus = JobStatus.QUEUED, **fields: Any) -> JobRecord:
        return self.table.insert_job(job_record(owner=self.owner, status=status, **fields))

    def refused(self, name: str, value: int, **request: Any) -> float:
        """Return after how many seconds the next request may come, which others need not wait for."""
        with pytest.raises(KeyLimitError, match=rf"^The limit {name} of this API key is {value}; ") as caught:
            self.admit(**request)
        assert (caught.value.status_code, caught.value.code) == (429, "key_limit_reached")
        self.admission.release(self.admit(self.other))
        return caught.value.retry_after_s


@pytest.fixture
def keyed(files: FileStore, table: JobTable) -> KeyBench:
    return KeyBench(files, table)


def test_admit_over_concurrent_jobs_is_refused(keyed: KeyBench) -> None:
    keyed.limit(concurrent_jobs=3)
    draft = keyed.add(JobStatus.REVIEW)
    done, _ = keyed.add(), keyed.add(JobStatus.RUNNING)
    place = keyed.admit()
    assert keyed.refused("concurrent_jobs", 3) == 60
    keyed.admit(is_job=False)  # an avatar
    keyed.admission.release(place)
    place = keyed.admit()
    keyed.table.update_job(done.id, status=JobStatus.SUCCEEDED)
    keyed.admit()
    keyed.admission.grow_reservation(AdmitRequest(owner=keyed.owner, num_bytes=None, max_bytes=1000), place)
    assert keyed.refused("concurrent_jobs", 3) == 60, "a body that names URLs is still a job"
    with pytest.raises(KeyLimitError, match="The limit concurrent_jobs of this API key is 3"):
        keyed.admission.check_approval(draft)
    keyed.limit(concurrent_jobs=4, jobs_per_day=1)
    keyed.admission.check_approval(draft)
    keyed.limit(concurrent_jobs=None, jobs_per_day=None)
    keyed.admit()


def test_admit_over_jobs_per_day_is_refused_until_midnight(keyed: KeyBench) -> None:
    keyed.limit(jobs_per_day=2)
    job = keyed.add(JobStatus.SUCCEEDED)
    keyed.table.delete_job(job.id)
    keyed.add(JobStatus.FAILED)
    keyed.now = keyed.now.replace(hour=21, minute=59, second=30, microsecond=0)
    assert keyed.refused("jobs_per_day", 2) == 2 * 3600 + 30
    keyed.now += timedelta(hours=3)
    keyed.admit()


@pytest.mark.parametrize(
    ("now", "days_left"), [(datetime(2031, 12, 30, tzinfo=UTC), 2), (datetime(2032, 2, 1, tzinfo=UTC), 29)]
)
def test_admit_over_video_seconds_is_refused_until_next_month(keyed: KeyBench, now: datetime, days_left: int) -> None:
    keyed.limit(video_seconds_per_month=100)
    with keyed.table.database.transaction():
        keyed.table.usage.add(keyed.owner, Usage(video_seconds=70))
        keyed.table.database.execute("UPDATE usage SET day = ?1", now.date().isoformat())
    keyed.now = now
    keyed.admission.release(keyed.admit())
    keyed.add(result_seconds=60.0, progress=0.5)
    assert keyed.refused("video_seconds_per_month", 100) == days_left * 86400
    keyed.now += timedelta(days=days_left)
    keyed.admit()


def test_admit_over_stored_bytes_is_refused(keyed: KeyBench) -> None:
    keyed.add(JobStatus.SUCCEEDED, stored_bytes=300, disk_bytes=900)
    avatar = keyed.table.put_avatar(avatar_record(owner=keyed.owner))
    for key, num_bytes in (
        (source_key(avatar.key), 200),
        (f"{voice_folder(keyed.owner, 'anna')}/sample.wav", 100),
        (source_key("0" * 32), 50_000),  # without a row
        (f"{voice_folder(keyed.other, 'anna')}/sample.wav", 50_000),  # of another key
    ):
        on_disk(keyed.files, key).write_bytes(bytes(num_bytes))
    damaged = f"{background_folder('b' * 32)}/background.json"
    on_disk(keyed.files, damaged).write_bytes(b'{"id": "')
    keyed.checks.measure(keyed.owner)
    assert keyed.stored.of(keyed.owner) == 300, "there is no limit"
    keyed.limit(stored_bytes=1000)
    keyed.checks.measure(keyed.owner)
    assert (keyed.stored.of(keyed.owner), keyed.stored.of(keyed.other)) == (600, 50_000)
    place = keyed.admit(num_bytes=400, is_job=False)
    assert keyed.refused("stored_bytes", 1000, num_bytes=1, is_job=False) == 60
    keyed.admission.release(place)
    keyed.add(stored_bytes=50, disk_bytes=100)  # after the measurement
    assert keyed.refused("stored_bytes", 1000, num_bytes=251) == 60
    keyed.stored.add(keyed.owner, 200)
    assert keyed.refused("stored_bytes", 1000, num_bytes=51) == 60
    keyed.limit(stored_bytes=40 * MIB)
    place = keyed.admit(num_bytes=None, max_bytes=100 * MIB)
    assert keyed.admission.extend(place, 32 * MIB) == 64 * MIB
    with pytest.raises(KeyLimitError, match=f"up to {40 * MIB + 950} bytes would be stored"):
        keyed.admission.extend(place, 40 * MIB)
    rows = usage_rows(keyed.table, keyed.stored, None, None, None)
    assert {row.key: row.stored_bytes for row in rows} == {keyed.owner: 850}


def test_add_during_a_measurement_is_not_lost(keyed: KeyBench, monkeypatch: pytest.MonkeyPatch) -> None:
    stored, states = keyed.files.stored, keyed.files.stored.states

    def states_beside_an_upload(folder: str) -> Mapping[str, Any]:
        listed = states(folder)
        keyed.stored.add(keyed.owner, 100)
        return listed

    monkeypatch.setattr(stored, "states", states_beside_an_upload)
    keyed.stored.refresh()
    assert keyed.stored.of(keyed.owner) == 3 * 100, "one per listed folder"


def test_check_live_over_live_sessions_is_refused(keyed: KeyBench) -> None:
    def start(session_id: str, owner: str) -> None:
        usage = LiveUsage(session_id=session_id, owner=owner)
        keyed.table.usage.record_live(usage, lambda: keyed.checks.check_live(owner))

    keyed.limit(live_sessions=1)
    start("1", keyed.owner)
    with pytest.raises(KeyLimitError, match="^The limit live_sessions of this API key is 1; live sessions: 1"):
        start("2", keyed.owner)
    start("3", keyed.other)
    keyed.table.usage.record_live(LiveUsage(session_id="1", owner=keyed.owner, is_over=True), lambda: None)
    start("2", keyed.owner)


def test_key_without_new_fields_has_weight_one_and_no_limits(keyed: KeyBench) -> None:
    path = keyed.files.root / "api_keys.json"
    keys = json.loads(path.read_text())["keys"]
    old = [{name: key[name] for name in ("id", "name", "hash", "created_at", "max_priority")} for key in keys]
    path.write_text(json.dumps({"keys": old}))
    policies = KeyPolicies(FileKeyRing(keyed.files.root))
    assert policies.weight_of(keyed.owner) == policies.weight_of(None) == policies.weight_of("revoked") == 1
    assert policies.limits_of(keyed.owner) == policies.limits_of(None)
    keyed.ring.update(keyed.owner, 7, {"live_sessions": 0})
    assert (policies.weight_of(keyed.owner), policies.weight_of(keyed.other)) == (7, 1)
    assert policies.last_weight_of(keyed.owner) == 7 and policies.last_weight_of("unknown") == 1
    keyed.ring.update(keyed.owner, None, {"stored_bytes": 5})
    limits = policies.limits_of(keyed.owner).model_dump(exclude_none=True)
    assert (policies.weight_of(keyed.owner), limits) == (7, {"live_sessions": 0, "stored_bytes": 5})
    path.write_text("{")
    assert policies.weight_of(keyed.owner) == 1, "jobs run on"


START = datetime(2026, 1, 1, tzinfo=UTC)


def job(status: JobStatus, seconds: float, progress: float = 0.0, span: tuple[float, float] | None = None) -> JobRecord:
    started, finished = (START + timedelta(seconds=at) for at in span) if span else (None, None)
    times: dict[str, Any] = {"created_at": START, "started_at": started, "finished_at": finished}
    return job_record(status=status, result_seconds=seconds, progress=progress, **times)


def test_the_wait_is_the_work_before_it_at_the_measured_rate() -> None:
    done = JobStatus.SUCCEEDED
    side_by_side = [job(done, 20, span=(0, 10)), job(done, 20, span=(5, 15)), job(done, 10, span=(100, 105))]
    running = [job(JobStatus.RUNNING, 40, progress=0.5), job(JobStatus.RUNNING, 100, progress=0.9)]
    unfinished = [*running, job(JobStatus.QUEUED, 30)]
    expected = forecast(unfinished, side_by_side, max_running=2)
    assert (expected.seconds_per_second, expected.is_measured) == (50 / 20, True), "any job ran for 20 s"
    assert expected.next_start_s == pytest.approx(8), "the one with 10 s left ends after 10 s of both: 20 s of work"
    assert expected.wait_s == pytest.approx(8 + 12)
    assert forecast(unfinished, side_by_side, max_running=3).next_start_s == 0
    assert not forecast([], [], 2).is_measured


def test_a_longer_or_larger_result_needs_more_disk() -> None:
    whole = OutputPicture.of(JobSettings(), info_of(1920, 1080, Fraction(25)))
    minute = result_bytes(whole, 60)
    assert minute == pytest.approx(3 * 1920 * 1080 * 25 * 60 * 0.25 / 8 + 2 * 224_000 * 60)
    assert result_bytes(whole, 120) == pytest.approx(2 * minute)
    assert result_bytes(OutputPicture.of(JobSettings(quality="best"), whole.info), 60) > 1.5 * minute
    small = OutputPicture.of(JobSettings(size="960x540"), info_of(1920, 1080, Fraction(25)))
    assert result_bytes(small, 60) < minute / 2
    assert result_bytes(OutputPicture.of(JobSettings(format="mov"), whole.info), 60) > 10 * minute
