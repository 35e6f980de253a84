"""Admission: places kept for bodies on their way, and who gets none."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from config import JobConfig, PipelineConfig
from errors import CapacityError, InProgressError, StorageFullError
from jobs.admission import AdmissionController, AdmitRequest
from jobs.model.base import utc_now
from jobs.model.record import JobRecord, JobStatus
from storage.file_store import FileStore
from storage.job_table import JobTable
from storage.sqlite.database import Database
from tests.unit.job_records import SOUND, avatar_record, job_record

MIB = 1024**2


class Bench:
    """An admission over a real table and folder, with a clock that the test moves."""

    def __init__(self, root: Path, **limits: object) -> None:
        base = {"max_running_jobs": 1, "max_queued_jobs": 4, "max_queued_bytes": 100 * MIB, "min_free_bytes": 0}
        jobs = JobConfig.model_validate({**base, **limits})
        self.files = FileStore(root)
        self.table = JobTable(Database(self.files.table_path))
        self.now = 0.0
        self.admission = AdmissionController(PipelineConfig(jobs=jobs), self.table, self.files, lambda: self.now)

    def add(self, status: JobStatus = JobStatus.QUEUED, **fields: Any) -> JobRecord:
        audio = SOUND.model_copy(update={"num_bytes": MIB})
        job = self.table.insert_job(job_record(audio=audio, **{"audio_seconds": 10.0, **fields}))
        if status is not JobStatus.QUEUED:
            self.table.update_job(job.id, status=status)
        return self.table.get_job(job.id)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path)
    yield bench
    bench.table.close()


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


def test_idle_workers_admit_more_jobs(bench: Bench) -> None:
    for _ in range(4):
        bench.add()
    bench.admission.admit(asking())  # one of the five starts at once
    with pytest.raises(CapacityError):
        bench.admission.admit(asking())


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
    with pytest.raises(CapacityError, match=f"{57 * MIB} more than {60 * MIB}"):
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
    with pytest.raises(CapacityError, match="uploads"):
        bench.admission.admit(asking(8 * MIB))
    bench.admission.release(rest.id)
    assert bench.admission.admit(asking(8 * MIB)).max_bytes == 8 * MIB
    assert bench.admission.state().num_bytes == 98 * MIB
    assert bench.admission.admit(asking(0)).max_bytes == 1, "an empty body is refused for what it is, later"


def test_one_key_has_a_share_of_the_queue(bench: Bench) -> None:
    bench.add(JobStatus.RUNNING, owner="a")
    bench.add(owner="a")
    bench.admission.admit(asking(owner="a"))
    with pytest.raises(CapacityError, match="2 jobs of this key are waiting; the limit is 2"):
        bench.admission.admit(asking(owner="a"))
    bench.admission.admit(asking(owner="b"))


def test_one_key_has_a_share_of_the_bytes(bench: Bench) -> None:
    bench.add(JobStatus.RUNNING)
    first = bench.admission.admit(asking(40 * MIB, owner="a"))
    bench.admission.extend(first.id, 35 * MIB)
    with pytest.raises(CapacityError, match=f"{50 * MIB} bytes of one API key, found {20 * MIB} more than {40 * MIB}"):
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
    first = bench.admission.admit(asking(owner="a", idempotency_key="k"))
    assert first.job is None
    with pytest.raises(InProgressError, match="being received"):
        bench.admission.admit(asking(owner="a", idempotency_key="k"))
    bench.admission.admit(asking(owner="b", idempotency_key="k"))
    bench.admission.release(first.id)
    job = bench.add(owner="a", idempotency_key="k")
    again = bench.admission.admit(asking(owner="a", idempotency_key="k"))
    assert again.job is not None and again.job.id == job.id
    assert again.max_bytes == MIB and again.timeout_s >= 60, "its body is read and compared"
    assert bench.admission.state().num_arriving == 1, "no bench is kept for a job that is there"


def test_a_disk_that_would_not_hold_it_is_noticed(tmp_path: Path) -> None:
    free = FileStore(tmp_path).stored.free_bytes()
    assert free is not None
    bench = Bench(tmp_path, min_free_bytes=free // 2)
    bench.admission.check_disk(free // 4)
    promised = bench.add(disk_bytes=free)  # other programs may delete files meanwhile
    with pytest.raises(StorageFullError, match="beside what other jobs will need"):
        bench.admission.check_disk(free // 4)
    with pytest.raises(StorageFullError):
        bench.admission.admit(asking())
    bench.table.update_job(promised.id, status=JobStatus.RUNNING, progress=0.99)
    bench.admission.admit(asking())
    bench.table.close()


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


def test_avatars_under_analysis_wait_too(bench: Bench) -> None:
    bench.add(JobStatus.RUNNING)
    for number in range(3):
        bench.table.put_avatar(avatar_record(pinned=number == 0, analyse_on_create=True, owner="a"))
    with pytest.raises(CapacityError, match="3 jobs of this key are waiting; the limit is 2"):
        bench.admission.admit(asking(owner="a"))
    bench.admission.admit(asking(owner="b"))
    with pytest.raises(CapacityError, match="4 jobs are waiting; the limit is 4"):
        bench.admission.admit(asking(owner="c"))
