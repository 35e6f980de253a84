"""A batch over a Director that keeps its jobs in this process."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from cluster.batch import Batch, BatchLimits
from cluster.manifest import Pair
from errors import CapacityError, FaceNotFoundError, NotFoundError
from storage.local.file_store import FileStore
from storage.records import (
    Admission,
    AdmitRequest,
    AvatarRecord,
    AvatarRequest,
    ErrorRecord,
    JobPage,
    JobQuery,
    JobRecord,
    JobStatus,
    SegmentRecord,
    ServiceStatus,
    SubmitRequest,
    avatar_key,
    utc_now,
)


class LocalDirector:
    """Implements `JobService`: a job's result is its speech; `silent` speech fails; `endless` speech never ends."""

    def __init__(self, files: FileStore, num_refusals: int = 0) -> None:
        self._files = files
        self._num_refusals = num_refusals
        self.jobs: dict[str, JobRecord] = {}
        self.max_unfinished = 0

    async def admit(self, request: AdmitRequest) -> Admission:
        raise AssertionError("a batch has its files here and asks for no place")

    async def widen(self, request: AdmitRequest, admission_id: str) -> Admission:
        raise AssertionError("a batch names no URLs")

    async def extend(self, admission_id: str, num_bytes: int) -> int:
        raise AssertionError("a batch has no bodies")

    async def release(self, admission_id: str) -> None:
        raise AssertionError("a batch has no place to give back")

    async def submit(self, request: SubmitRequest) -> JobRecord:
        if self._num_refusals:
            self._num_refusals -= 1
            raise CapacityError("full", 0.01)
        assert request.video is not None
        job = JobRecord(
            id=request.job_id,
            options=request.options,
            audio=request.audio,
            avatar_key=avatar_key(request.video.sha256, request.options.face, "1"),
            created_at=utc_now(),
        )
        self._files.job_dir(job.id)
        self._files.take_upload(request.audio.key, self._files.audio_path(job.id))
        self._files.delete_upload(request.video.key)
        self.jobs[job.id] = job
        self.max_unfinished = max(self.max_unfinished, sum(not j.status.is_final for j in self.jobs.values()))
        return job

    async def delete_job(self, job_id: str, owner: str | None) -> None:
        raise AssertionError("a batch keeps its jobs")

    async def finished_segments(self, job_id: str, owner: str | None) -> list[SegmentRecord]:
        raise AssertionError("a batch looks at no preview")

    async def get_job(self, job_id: str, owner: str | None) -> JobRecord:
        if job_id not in self.jobs:
            raise NotFoundError(f"There is no job {job_id}.")
        return self.jobs[job_id]

    async def find_job(self, idempotency_key: str, owner: str | None) -> JobRecord | None:
        raise AssertionError("a batch knows its jobs by their ids")

    async def free_key(self, job_id: str, owner: str | None) -> None:
        raise AssertionError("a batch gives no keys")

    async def list_jobs(self, query: JobQuery) -> JobPage:
        raise AssertionError("a batch lists no jobs")

    async def wait_job(self, job_id: str, version: int, timeout_s: float) -> JobRecord:
        speech = self._files.audio_path(job_id).read_bytes()
        if speech == b"endless":
            await asyncio.sleep(timeout_s)
            return self.jobs[job_id]
        await asyncio.sleep(0.01)
        if speech == b"silent":
            error = ErrorRecord.of(FaceNotFoundError("no face"))
            return self._change(job_id, status=JobStatus.FAILED, error=error)
        self._files.result_path(job_id).write_bytes(speech)
        return self._change(job_id, status=JobStatus.SUCCEEDED, report={"warnings": ["as made"]})

    async def cancel_job(self, job_id: str, owner: str | None) -> JobRecord:
        return self._change(job_id, status=JobStatus.CANCELLED)

    async def create_avatar(self, request: AvatarRequest) -> AvatarRecord:
        raise NotFoundError("no avatars here")

    async def get_avatar(self, avatar_id: str, owner: str | None) -> AvatarRecord:
        raise NotFoundError("no avatars here")

    async def list_avatars(self, owner: str | None) -> list[AvatarRecord]:
        return []

    async def delete_avatar(self, avatar_id: str, owner: str | None) -> None:
        raise NotFoundError("no avatars here")

    async def status(self) -> ServiceStatus:
        raise NotFoundError("nothing to tell")

    async def ready(self) -> bool:
        return True

    def _change(self, job_id: str, **changes: Any) -> JobRecord:
        job = self.jobs[job_id]
        self.jobs[job_id] = job.model_copy(update={"version": job.version + 1, **changes})
        return self.jobs[job_id]


@pytest.fixture
def files(tmp_path: Path) -> FileStore:
    return FileStore(tmp_path / "data")


def _pairs(folder: Path, *speeches: bytes) -> list[Pair]:
    (folder / "face.mp4").write_bytes(b"face")
    pairs = []
    for line, speech in enumerate(speeches, start=1):
        (folder / f"{line}.wav").write_bytes(speech)
        out = folder / "out" / f"{line}.mp4"
        pairs.append(Pair(line=line, video=folder / "face.mp4", audio=folder / f"{line}.wav", out=out))
    return pairs


def _run(batch: Batch, pairs: list[Pair]) -> dict[int, dict[str, Any]]:
    async def collect() -> dict[int, dict[str, Any]]:
        return {report["line"]: report async for report in batch.run(pairs)}

    return asyncio.run(collect())


def test_results_arrive_and_failures_are_reported(files: FileStore, tmp_path: Path) -> None:
    pairs = _pairs(tmp_path, b"one", b"silent", b"three")
    reports = _run(Batch(LocalDirector(files), files, "warp", BatchLimits(2, 10)), pairs)
    assert [reports[line]["status"] for line in (1, 2, 3)] == ["succeeded", "failed", "succeeded"]
    assert reports[2]["error"]["code"] == "face_not_found"
    assert [reports[line]["quality"] for line in (1, 2)] == [{"warnings": ["as made"]}, None]
    assert pairs[0].out.read_bytes() == b"one"
    assert not pairs[1].out.exists()
    assert sorted(path.name for path in pairs[0].out.parent.iterdir()) == ["1.mp4", "3.mp4"]


def test_no_more_than_allowed_are_in_flight(files: FileStore, tmp_path: Path) -> None:
    director = LocalDirector(files)
    _run(Batch(director, files, "warp", BatchLimits(2, 10)), _pairs(tmp_path, *[b"speech"] * 7))
    assert director.max_unfinished == 2


def test_a_full_service_is_asked_again(files: FileStore, tmp_path: Path) -> None:
    director = LocalDirector(files, num_refusals=3)
    reports = _run(Batch(director, files, "warp", BatchLimits(1, 10)), _pairs(tmp_path, b"speech"))
    assert reports[1]["status"] == "succeeded"


def test_a_pair_that_never_ends_is_cancelled(files: FileStore, tmp_path: Path) -> None:
    director = LocalDirector(files)
    reports = _run(Batch(director, files, "warp", BatchLimits(2, 0.3)), _pairs(tmp_path, b"endless", b"speech"))
    assert reports[1]["error"]["code"] == "stage_timeout"
    assert reports[2]["status"] == "succeeded"
    assert sorted(job.status.value for job in director.jobs.values()) == ["cancelled", "succeeded"]


def test_a_file_that_vanished_fails_its_pair_alone(files: FileStore, tmp_path: Path) -> None:
    pairs = _pairs(tmp_path, b"one", b"two")
    pairs[0].audio.unlink()
    reports = _run(Batch(LocalDirector(files), files, "warp", BatchLimits(2, 10)), pairs)
    assert reports[1]["error"]["code"] == "file_error"
    assert reports[2]["status"] == "succeeded"
    assert list((tmp_path / "data" / "uploads").iterdir()) == []
