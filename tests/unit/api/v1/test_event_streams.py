"""What follows a job over real sockets: server-sent events, previews, thumbnails, and its source."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import httpx
import pytest

from lipwright.api.v1.event_streams import EventStreams, Feed, job_events
from lipwright.api.v1.preview import Previews, _fetch
from lipwright.api.v1.waiting import wait_until_final
from lipwright.config import JobConfig, LabelsConfig
from lipwright.errors import BusyError, CapacityError, ReplicaLostError, TableUnreachableError
from lipwright.jobs.model.record import JobRecord, JobStatus
from lipwright.jobs.model.spec import JobSpec
from lipwright.jobs.requests import RequestContext
from lipwright.storage.file_keys import source_key
from lipwright.storage.file_store import FileStore
from lipwright.storage.local.folder import LocalFiles
from tests.unit.api_server import MemoryService
from tests.unit.media.clips import decode_all
from tests.unit.segmented_job import LENGTHS, NUM_FRAMES, RenderingJob, SegmentedJob
from tests.waiting import wait_until


async def _submit(service: MemoryService) -> JobRecord:
    writer = service.files.new_upload("a.wav")
    writer.write(b"sound")
    return await service.submit(JobSpec(audio=writer.finish(), avatar_id="0" * 32), RequestContext())


def _parse(text: str) -> list[dict[str, Any]]:
    blocks = [block for block in text.split("\n\n") if "event: " in block]
    return [dict(line.split(": ", 1) for line in block.splitlines()) for block in blocks]


def _followed(http: httpx.Client, service: MemoryService, job: JobRecord, headers: Any = None) -> list[dict[str, Any]]:
    """The events of a job that is finished after the first one."""
    with http.stream("GET", f"/v1/jobs/{job.id}/events", headers=headers) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        text = ""
        for piece in answer.iter_text():
            if "queued" in piece:
                service.finish(job.id)
            text += piece
    return _parse(text)


def _status(event: dict[str, Any]) -> str:
    return str(json.loads(event["data"])["status"])


def test_events_follow_a_job_to_its_end(http: httpx.Client, service: MemoryService) -> None:
    job = asyncio.run(_submit(service))
    events = _followed(http, service, job)
    assert {event["event"] for event in events} == {"job"}
    last = json.loads(events[-1]["data"])
    assert (_status(events[0]), _status(events[-1])) == ("queued", "succeeded")
    assert last["links"]["video"] == f"/v1/jobs/{job.id}/video"
    version = service.table.get_job(job.id).version
    assert int(events[-1]["id"]) == version
    path = f"/v1/jobs/{job.id}/events"
    (event,) = _parse(http.get(path, headers={"last-event-id": str(version - 1)}).text)
    assert event["id"] == str(version), "it resumes after the last seen"
    assert http.get(path, headers={"last-event-id": str(version)}).status_code == 204
    assert http.get(f"/v1/jobs/{'0' * 32}/events").status_code == 404


def test_a_bogus_id_counts_as_nothing_seen(http: httpx.Client, service: MemoryService) -> None:
    """Also one from the future: its sender would wait for ever for a version that the job never gets."""
    for bogus in ("99999999999", "1" * 40, "-1", "1.5", "", "\xb2", "0x1", "rubbish"):
        job = asyncio.run(_submit(service))
        headers = {b"last-event-id": bogus.encode("latin-1")}
        first, *_, last = _followed(http, service, job, headers)
        assert (_status(first), _status(last)) == ("queued", "succeeded")
        again = http.get(f"/v1/jobs/{job.id}/events", headers=headers)
        assert [_status(event) for event in _parse(again.text)] == ["succeeded"]


async def test_quiet_job_is_pinged_and_queue_moves_are_told(service: MemoryService) -> None:
    first = await _submit(service)
    second = await _submit(service)
    stream = job_events(Feed(service, second, 0.05), second, 0, "")
    pieces = [await anext(stream) for _ in range(3)]
    await service.cancel_job(first.id, None)
    while (moved := await anext(stream)) == pieces[-1]:  # on a busy machine it is pinged once more
        pass
    pieces += [moved]
    service.table.update_job(second.id, status=JobStatus.CANCELLED)
    retry, event, ping, moved, *rest = pieces + [piece async for piece in stream]
    service.table.close()
    assert retry.startswith("retry: ")
    assert ping == ": ping\n\n"
    positions = [json.loads(_parse(text)[0]["data"])["queue_position"] for text in (event, moved)]
    assert positions == [1, 0]
    assert len(_parse("".join(rest))) == 1


async def test_error_of_the_service_ends_the_stream_as_a_problem(service: MemoryService) -> None:
    job = await _submit(service)
    stream = job_events(Feed(service, job, 0.05), job, 0, "")
    for _ in range(2):
        await anext(stream)
    service.table.delete_job(job.id)
    (event,) = _parse([piece async for piece in stream][-1])
    service.table.close()
    assert (event["event"], json.loads(event["data"])["code"]) == ("problem", "not_found")


async def test_defect_of_the_service_ends_the_stream(service: MemoryService, monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(*_: object) -> None:
        raise RuntimeError("a defect")

    job = await _submit(service)
    monkeypatch.setattr(service, "wait_job", broken)
    with pytest.raises(RuntimeError, match="a defect"):
        async for _ in job_events(Feed(service, job, 0.05), job, 0, ""):
            pass


async def test_wait_until_final_without_database_returns_the_job(
    service: MemoryService, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(*_: object) -> None:
        raise TableUnreachableError("The database of the job table does not answer.")

    job = await _submit(service)
    monkeypatch.setattr(service, "wait_job", away)
    assert await wait_until_final(EventStreams(service, 8, 0.5, 10.0), job, None, 30) == job


async def test_one_reader_feeds_all_streams_of_a_job(service: MemoryService) -> None:
    job = await _submit(service)
    streams = EventStreams(service, 100, 1.0, 60.0)
    places = [streams.enter(job, None) for _ in range(50)]
    sent = [job_events(place.feed, job, 0, "") for place in places]
    begun = [[await anext(events), await anext(events)] for events in sent]
    num_waiting, service.num_waits = service.num_waits, 0
    await asyncio.sleep(0.05)
    service.finish(job.id)
    ended = [[piece async for piece in events] for events in sent]
    for place in places:
        place.leave()
    assert places[0].feed.is_over
    assert num_waiting <= 1
    texts, num_waits = [first + rest for first, rest in zip(begun, ended, strict=True)], service.num_waits
    service.table.close()
    assert num_waits <= 3, "one for each version, not fifty times that"
    for pieces in texts:
        statuses = [_status(event) for event in _parse("".join(pieces))]
        assert (statuses[0], statuses[-1]) == ("queued", "succeeded")


async def test_event_streams_are_bounded_and_shared(service: MemoryService) -> None:
    job = await _submit(service)
    streams = EventStreams(service, 4, 0.5, 0.05)
    own = [streams.enter(job, "a") for _ in range(2)]
    with pytest.raises(BusyError, match="2 per API key"):
        streams.enter(job, "a")
    others = [streams.enter(job, "b"), streams.enter(job, None)]
    with pytest.raises(BusyError, match="limit is 4"):
        streams.enter(job, "c")
    own[0].leave()
    own[0].leave()
    others.append(streams.enter(job, "c"))
    for place in (*own, *others):
        place.leave()
    await asyncio.sleep(0)
    assert own[0].feed.is_over, "nobody follows, nobody reads"
    service.table.close()


@pytest.mark.parametrize("api_settings", [{"jobs": JobConfig(max_event_streams=2)}])
def test_a_line_that_breaks_gives_its_place_back(http: httpx.Client, service: MemoryService) -> None:
    path = f"/v1/jobs/{asyncio.run(_submit(service)).id}/events"

    def are_places_taken_and_refused() -> bool:
        with http.stream("GET", path) as first, http.stream("GET", path) as second:
            if (first.status_code, second.status_code) != (200, 200):
                return False  # the server has not seen the two before go
            refused = http.get(path)
            assert (refused.status_code, refused.json()["code"]) == (503, "busy")
            assert refused.headers["retry-after"] == "5"
            return True

    for _ in range(4):
        wait_until(are_places_taken_and_refused, 60)


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


def test_the_preview_outlives_a_director_and_not_its_job(
    http: httpx.Client, service: MemoryService, rendering: RenderingJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost = [ReplicaLostError("The Director died.")]
    wait = service.wait_job

    async def wait_or_die(job_id: str, version: int, timeout_s: float) -> JobRecord:
        if lost:
            raise lost.pop()
        return await wait(job_id, version, timeout_s)

    monkeypatch.setattr(service, "wait_job", wait_or_die)
    with http.stream("GET", f"/v1/jobs/{rendering.id}/preview") as answer:
        pieces = answer.iter_bytes()
        rendering.finish_segment(0)
        assert next(pieces)
        rendering.finish_segment(1)
        rendering.finish_segment(2)
        assert next(pieces) and not lost
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


async def test_preview_viewers_are_limited(service: MemoryService, http: httpx.Client, rendering: RenderingJob) -> None:
    previews = Previews(service, service.files, LabelsConfig(), max_viewers=1)
    rendering.finish_segment(0)
    record = service.table.get_job(rendering.id)
    stream = await previews.open(record)
    assert await anext(stream)
    with pytest.raises(CapacityError):
        await previews.open(record)
    await stream.aclose()
    again = await previews.open(record)
    assert await anext(again)
    await again.aclose()


def test_a_viewer_who_leaves_ends_the_work_for_it(http: httpx.Client, rendering: RenderingJob) -> None:
    before = threading.active_count()
    for _ in range(20):
        with http.stream("GET", f"/v1/jobs/{rendering.id}/preview") as answer:
            assert answer.status_code == 200
    rendering.finish_segment(0)
    rendering.finish()
    assert http.get(f"/v1/jobs/{rendering.id}/preview").status_code == 200
    wait_until(lambda: threading.active_count() < before + 20, 60)


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
    assert record.spec.video is not None
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


class SlowFiles(LocalFiles):
    """Files whose fetching takes until the test says so."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.is_asked, self.may_answer = threading.Event(), threading.Event()
        self.num_held = 0

    @contextmanager
    def fetched(self, key: str) -> Iterator[Path]:
        self.is_asked.set()
        assert self.may_answer.wait(60)
        self.num_held += 1
        try:
            yield self.staging_path(key)
        finally:
            self.num_held -= 1


async def test_fetch_cancelled_in_the_middle_releases_file(tmp_path: Path) -> None:
    files = SlowFiles(tmp_path)

    async def fetch() -> None:
        async with _fetch(FileStore(tmp_path, files), "key"):
            await asyncio.sleep(60)

    fetching = asyncio.create_task(fetch())
    await asyncio.to_thread(files.is_asked.wait, 60)
    fetching.cancel()
    await asyncio.sleep(0)
    files.may_answer.set()
    await asyncio.wait([fetching])
    assert fetching.cancelled() and files.num_held == 0
