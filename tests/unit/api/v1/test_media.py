"""What there is to see of a job over real sockets: preview, thumbnail, source."""

from __future__ import annotations

import asyncio
import threading
import time
from fractions import Fraction
from pathlib import Path

import httpx
import pytest

from api.v1.preview import Previews
from config import LabelsConfig
from errors import CapacityError, ReplicaLostError
from jobs.model.record import JobRecord, JobStatus
from storage.file_keys import source_key
from tests.unit.api_server import MemoryService, api_client
from tests.unit.media.clips import decode_all
from tests.unit.segmented_job import LENGTHS, NUM_FRAMES, RenderingJob, SegmentedJob


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> SegmentedJob:
    return SegmentedJob(tmp_path_factory.mktemp("job"), Fraction(25))


@pytest.fixture
def rendering(service: MemoryService, http: httpx.Client, job: SegmentedJob) -> RenderingJob:
    return RenderingJob(service, http, job)


def test_the_preview_grows_with_its_job(http: httpx.Client, rendering: RenderingJob, tmp_path: Path) -> None:
    with http.stream("GET", f"/v1/jobs/{rendering.id}/preview") as answer:
        assert (answer.status_code, answer.headers["content-type"]) == (200, "video/mp4")
        assert answer.headers["cache-control"] == "no-store"
        pieces = answer.iter_bytes()
        rendering.finish_segment(2)  # out of order: nothing can be shown yet
        rendering.finish_segment(0)
        first = next(pieces)
        assert http.get(f"/v1/jobs/{rendering.id}").json()["status"] == "running"
        (tmp_path / "first.mp4").write_bytes(first)
        assert len(decode_all(tmp_path / "first.mp4")) > LENGTHS[0] // 2
        rendering.finish_segment(1)
        rendering.finish()  # the last segment is only in the result
        rest = b"".join(pieces)
    (tmp_path / "whole.mp4").write_bytes(first + rest)
    assert len(decode_all(tmp_path / "whole.mp4")) == NUM_FRAMES
    after = http.get(f"/v1/jobs/{rendering.id}/preview").content
    (tmp_path / "after.mp4").write_bytes(after)
    assert len(decode_all(tmp_path / "after.mp4")) == NUM_FRAMES


class _AwayForAMoment(MemoryService):
    """A service whose Director dies under the first call that waits."""

    was_away = False

    async def wait_job(self, job_id: str, version: int, timeout_s: float) -> JobRecord:
        if not self.was_away:
            self.was_away = True
            raise ReplicaLostError("The Director died.")
        return await super().wait_job(job_id, version, timeout_s)


def test_the_preview_outlives_a_director_and_not_its_job(job: SegmentedJob, tmp_path: Path) -> None:
    service = _AwayForAMoment(tmp_path)
    with api_client(service) as http:
        rendering = RenderingJob(service, http, job)
        with http.stream("GET", f"/v1/jobs/{rendering.id}/preview") as answer:
            pieces = answer.iter_bytes()
            rendering.finish_segment(0)
            assert next(pieces)
            rendering.finish_segment(1)
            rendering.finish_segment(2)
            assert next(pieces)
            assert service.was_away
            service.files.delete_job(rendering.id)
            service.table.delete_job(rendering.id)
            list(pieces)  # ends, and not with a broken line


@pytest.mark.parametrize("status", [JobStatus.CANCELLED, JobStatus.FAILED])
def test_the_preview_ends_with_a_job_that_ends(http: httpx.Client, rendering: RenderingJob, status: JobStatus) -> None:
    with http.stream("GET", f"/v1/jobs/{rendering.id}/preview") as answer:
        pieces = answer.iter_bytes()
        rendering.finish_segment(0)
        assert next(pieces)
        rendering.update(status=status)
        assert b"".join(pieces) == b""
    refused = http.get(f"/v1/jobs/{rendering.id}/preview")
    assert (refused.status_code, refused.json()["code"]) == (409, "state_conflict")
    assert http.get(f"/v1/jobs/{rendering.id}").json()["links"]["preview"] is None


def test_so_many_may_look_on_and_a_place_is_free_when_one_leaves(
    service: MemoryService, http: httpx.Client, rendering: RenderingJob
) -> None:
    previews = Previews(service, service.files, LabelsConfig(), max_viewers=1)
    rendering.finish_segment(0)
    record = service.table.get_job(rendering.id)

    async def look() -> None:
        stream = await previews.open(record)
        assert await anext(stream)
        with pytest.raises(CapacityError):
            await previews.open(record)
        await stream.aclose()
        again = await previews.open(record)
        assert await anext(again)
        await again.aclose()

    asyncio.run(look())


def test_a_viewer_who_leaves_ends_the_work_for_it(http: httpx.Client, rendering: RenderingJob) -> None:
    before = threading.active_count()
    for _ in range(20):
        with http.stream("GET", f"/v1/jobs/{rendering.id}/preview") as answer:
            assert answer.status_code == 200
    rendering.finish_segment(0)
    rendering.finish()
    assert http.get(f"/v1/jobs/{rendering.id}/preview").status_code == 200
    deadline = time.monotonic() + 60
    while threading.active_count() >= before + 20:
        assert time.monotonic() < deadline, "each left a thread behind"
        time.sleep(0.05)


def test_thumbnail(http: httpx.Client, rendering: RenderingJob) -> None:
    url = f"/v1/jobs/{rendering.id}/thumbnail"
    assert http.get(url).json()["code"] == "state_conflict"
    rendering.finish_segment(0)
    early = http.get(url)
    assert (early.status_code, early.headers["content-type"]) == (200, "image/jpeg")
    rendering.finish()
    late = http.get(url)
    assert early.content[:2] == late.content[:2] == b"\xff\xd8"
    assert "private" in late.headers["cache-control"]


def test_sources_are_given_back_inert(http: httpx.Client, service: MemoryService, rendering: RenderingJob) -> None:
    record = service.table.get_job(rendering.id)
    assert record.spec is not None and record.spec.video is not None
    service.files.take_upload(record.spec.video.key, source_key(record.avatar_key))
    answer = http.get(f"/v1/jobs/{rendering.id}/source")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "image/png")
    assert answer.content.startswith(b"\x89PNG")
    for content, expected in (
        (b"<html><script>alert(1)</script>" * 9, "application/octet-stream"),
        (b"\0\0\0\x20ftypisom", "video/mp4"),
    ):
        made = http.post("/v1/avatars", files={"video": ("x.html", content)}).json()
        answer = http.get(f"/v1/avatars/{made['id']}/source")
        assert (answer.content, answer.headers["content-type"]) == (content, expected)
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["content-security-policy"].startswith("sandbox")
    service.files.delete_avatar(record.avatar_key)
    assert http.get(f"/v1/jobs/{rendering.id}/source").status_code == 404
