"""Server-sent events: one for every change, resumed where the client was, ended after a final status."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from api.v1.event_streams import EventStreams, Feed, job_events
from config import JobConfig
from errors import BusyError
from jobs.model.record import JobRecord, JobStatus
from jobs.model.spec import JobSpec
from jobs.requests import RequestContext
from tests.unit.api_server import MemoryService, api_client


async def _submit(service: MemoryService) -> JobRecord:
    writer = service.files.new_upload("a.wav")
    writer.write(b"sound")
    return await service.submit(JobSpec(audio=writer.finish(), avatar_id="0" * 32), RequestContext())


def _parse(text: str) -> list[dict[str, Any]]:
    blocks = [block for block in text.split("\n\n") if "event: " in block]
    return [dict(line.split(": ", 1) for line in block.splitlines()) for block in blocks]


def test_events_follow_a_job_to_its_end(http: httpx.Client, service: MemoryService) -> None:
    job = asyncio.run(_submit(service))
    with http.stream("GET", f"/v1/jobs/{job.id}/events") as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        text = ""
        for piece in answer.iter_text():
            if not text:
                service.finish(job.id)
            text += piece
    events = _parse(text)
    assert {event["event"] for event in events} == {"job"}
    assert [json.loads(event["data"])["status"] for event in events][0] == "queued"
    last = json.loads(events[-1]["data"])
    assert (last["status"], last["links"]["video"]) == ("succeeded", f"/v1/jobs/{job.id}/video")
    assert int(events[-1]["id"]) == service.table.get_job(job.id).version


def test_events_resume_after_the_last_seen(http: httpx.Client, service: MemoryService) -> None:
    job = asyncio.run(_submit(service))
    done = service.finish(job.id)
    path = f"/v1/jobs/{job.id}/events"
    (event,) = _parse(http.get(path, headers={"last-event-id": str(done.version - 1)}).text)
    assert event["id"] == str(done.version)
    assert http.get(path, headers={"last-event-id": str(done.version)}).status_code == 204
    assert len(_parse(http.get(path, headers={"last-event-id": "rubbish"}).text)) == 1
    assert http.get(f"/v1/jobs/{'0' * 32}/events").status_code == 404


@pytest.mark.parametrize("bogus", ["99999999999", "1" * 40, "-1", "1.5", "", "\xb2", "0x1", "rubbish"])
def test_a_bogus_id_counts_as_nothing_seen(http: httpx.Client, service: MemoryService, bogus: str) -> None:
    """Also one from the future: its sender would wait for ever for a version that the job never gets."""
    job = asyncio.run(_submit(service))
    headers = {b"last-event-id": bogus.encode("latin-1")}
    with http.stream("GET", f"/v1/jobs/{job.id}/events", headers=headers) as answer:
        text = ""
        for piece in answer.iter_text():
            if "queued" in piece:
                service.finish(job.id)
            text += piece
    assert [json.loads(event["data"])["status"] for event in _parse(text)][:: len(_parse(text)) - 1] == [
        "queued",
        "succeeded",
    ]
    again = http.get(f"/v1/jobs/{job.id}/events", headers=headers)
    assert [json.loads(event["data"])["status"] for event in _parse(again.text)] == ["succeeded"]


def test_a_client_that_comes_again_misses_nothing_and_ends(http: httpx.Client, service: MemoryService) -> None:
    """As an EventSource does: with the id of the last event, until the server answers 204."""
    job = asyncio.run(_submit(service))
    path, seen, statuses = f"/v1/jobs/{job.id}/events", "", []
    for _ in range(10):
        with http.stream("GET", path, headers={"last-event-id": seen} if seen else None) as answer:
            if answer.status_code == 204:
                break
            text = ""
            for piece in answer.iter_text():
                text += piece
                if _parse(text):
                    break  # the line breaks after the first event
        (event, *_) = _parse(text)
        seen = event["id"]
        statuses.append(json.loads(event["data"])["status"])
        if len(statuses) == 1:
            service.finish(job.id)
    else:
        pytest.fail("the stream never ended")
    assert statuses == ["queued", "succeeded"]


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


def test_error_of_the_service_ends_the_stream_as_a_problem(service: MemoryService) -> None:
    async def follow() -> list[str]:
        job = await _submit(service)
        stream = job_events(Feed(service, job, 0.05), job, 0, "")
        pieces = [await anext(stream) for _ in range(2)]
        service.table.delete_job(job.id)
        return pieces + [piece async for piece in stream]

    (event,) = _parse(asyncio.run(follow())[-1])
    service.table.close()
    assert (event["event"], json.loads(event["data"])["code"]) == ("problem", "not_found")


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
        statuses = [json.loads(event["data"])["status"] for event in _parse("".join(pieces))]
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


def test_a_line_that_breaks_gives_its_place_back(tmp_path: Path) -> None:
    service = MemoryService(tmp_path)
    jobs = JobConfig(max_event_streams=2)
    with api_client(service, jobs=jobs) as client:
        job = asyncio.run(_submit(service))
        path = f"/v1/jobs/{job.id}/events"
        for _ in range(4):
            deadline = time.monotonic() + 60
            while time.monotonic() < deadline:  # until the server has seen the two before go
                with client.stream("GET", path) as first, client.stream("GET", path) as second:
                    if (first.status_code, second.status_code) == (200, 200):
                        refused = client.get(path)
                        assert (refused.status_code, refused.json()["code"]) == (503, "busy")
                        assert refused.headers["retry-after"] == "5"
                        break
                time.sleep(0.05)
            else:
                pytest.fail("places are not given back")
