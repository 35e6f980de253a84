"""Jobs in review through both clients: turns, edits, approval, and what waiting for them returns."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest

from jobs.model.record import JobRecord, JobStatus
from jobs.model.spec import JobSpec
from jobs.requests import RequestContext
from lipwright_client import (
    AsyncLipwright,
    ConnectionFailedError,
    Job,
    Lipwright,
    StateError,
    Turns,
    UnexpectedAnswerError,
    UploadError,
)
from lipwright_client.from_json import from_json
from tests.unit.api_server import MemoryService

_SRT = b"1\n00:00:01,000 --> 00:00:02,000\nANNA: Hello\n\n2\n00:00:03,000 --> 00:00:04,000\nBOB: Good day\n"
_FIELDS: dict[str, Any] = {"video": ("face.png", b"\x89PNG\r\n\x1a\n" + bytes(64)), "subtitles": ("a.srt", _SRT)}


class _Service(MemoryService):
    """Speaks texts of jobs with `review` at once."""

    async def submit(self, spec: JobSpec, context: RequestContext) -> JobRecord:
        job = await super().submit(spec, context)
        self.table.update_job(job.id, num_cues=2, num_cues_done=2)
        return self.review(job.id) if spec.review else job


@pytest.fixture
def service(tmp_path: Path) -> MemoryService:
    return _Service(tmp_path / "data")


@pytest.fixture
def draft(client: Lipwright) -> Job:
    return client.jobs.create(review=True, **_FIELDS)


def _texts(turns: Turns) -> list[tuple[float, str | None]]:
    return [(turn.start, turn.text) for turn in turns.turns]


def test_wait_returns_a_job_in_review(client: Lipwright, draft: Job) -> None:
    seen: list[str] = []
    job = client.jobs.wait(draft.id, timeout_s=30, on_change=lambda job: seen.append(job.count))
    assert (job.status, job.is_final, job.is_waiting_for_review, seen) == ("review", False, True, ["text 2 of 2"])


def test_speak_with_review_saves_no_video(client: Lipwright, tmp_path: Path) -> None:
    job = client.speak(out=tmp_path / "out.mp4", review=True, **_FIELDS)
    assert (job.status, (tmp_path / "out.mp4").exists()) == ("review", False)


def test_turns_have_times_and_lengths(client: Lipwright, draft: Job) -> None:
    turns = client.jobs.turns(draft.id)
    assert (turns.status, _texts(turns)) == ("review", [(1.0, "Hello"), (3.0, "Good day")])
    first = turns.turns[0]
    assert (first.number, first.speaker, first.end) == (0, "ANNA", 2.0)
    assert first.natural_seconds is not None
    assert b"Hello" in client.jobs.turn_audio(draft.id, 0)


def test_edits_return_all_turns(client: Lipwright, draft: Job) -> None:
    jobs, version = client.jobs, client.jobs.turns(draft.id).version
    turns = jobs.edit_turn(draft.id, 0, version, text="Hi", end=None)
    assert (turns.turns[0].text, turns.turns[0].end) == ("Hi", None)
    turns = jobs.add_turn(draft.id, "Bye", 5.0, turns.version, speaker="BOB", end=6.0)
    assert _texts(turns) == [(1.0, "Hi"), (3.0, "Good day"), (5.0, "Bye")]
    turns = jobs.split_turn(draft.id, 1, 3.5, "Good", "day")
    assert _texts(turns)[1:3] == [(3.0, "Good"), (3.5, "day")]
    turns = jobs.remove_turn(draft.id, 1, turns.version)
    assert _texts(turns) == [(1.0, "Hi"), (3.5, "day"), (5.0, "Bye")]


def test_edit_of_an_earlier_version_is_refused(client: Lipwright, draft: Job) -> None:
    version = client.jobs.turns(draft.id).version
    client.jobs.edit_turn(draft.id, 0, text="Hi")
    with pytest.raises(StateError, match="changed in the meantime"):
        client.jobs.remove_turn(draft.id, 0, version)


def test_edit_without_fields_is_refused(client: Lipwright, draft: Job) -> None:
    with pytest.raises(UploadError, match="at least one field"):
        client.jobs.edit_turn(draft.id, 0)


def test_approve_renders_and_may_be_repeated(client: Lipwright, service: MemoryService, draft: Job) -> None:
    assert client.jobs.approve(draft.id).status == client.jobs.approve(draft.id).status == "queued"
    service.finish(draft.id)
    assert client.jobs.wait(draft.id).status == "succeeded"
    with pytest.raises(StateError):
        client.jobs.edit_turn(draft.id, 0, text="Hi")


async def test_asynchronous_client_edits_and_approves(url: str, service: MemoryService) -> None:
    async with AsyncLipwright(url) as client:
        job = await client.jobs.create(review=True, **_FIELDS)
        turns, job = await client.jobs.edit_turn(job.id, 1, text="Bye"), await client.jobs.approve(job.id)
    assert (_texts(turns)[1], job.status) == ((3.0, "Bye"), "queued")
    assert service.table.get_job(job.id).status is JobStatus.QUEUED


@pytest.mark.parametrize(("method", "num_requests"), [("remove", 1), ("approve", 4)])
def test_edit_whose_response_is_lost_is_not_repeated(method: str, num_requests: int) -> None:
    requests: list[str] = []

    def lose(request: httpx.Request) -> httpx.Response:
        requests.append(request.method)
        raise httpx.ReadError("broken", request=request)

    transport = httpx.MockTransport(lose)
    with Lipwright("http://127.0.0.1:9", transport=transport) as client, pytest.raises(ConnectionFailedError):
        client.jobs.remove_turn("a", 0) if method == "remove" else client.jobs.approve("a")
    assert len(requests) == num_requests


def test_edit_that_a_gateway_answers_is_not_repeated() -> None:
    requests: list[httpx.Request] = []

    def time_out(request: httpx.Request) -> httpx.Response:
        requests.append(request)
        return httpx.Response(504, text="Gateway Timeout", request=request)

    transport = httpx.MockTransport(time_out)
    with Lipwright("http://127.0.0.1:9", transport=transport) as client, pytest.raises(UnexpectedAnswerError):
        client.jobs.remove_turn("a", 0)
    assert len(requests) == 1


@pytest.mark.parametrize(
    ("state", "count"),
    [
        ({"stage": "speaking", "num_cues": None}, ""),
        ({"stage": "speaking", "num_cues": 60, "num_cues_done": 12}, "text 12 of 60"),
        ({"stage": "rendering", "num_cues": 60, "num_cues_done": 60}, ""),
        ({"stage": "rendering", "num_frames_done": 100, "num_frames": 250}, "frame 100 of 250"),
    ],
)
def test_count_is_that_of_the_stage(state: dict[str, Any], count: str) -> None:
    job = {"id": "a", "status": "running", "progress": 0, "num_frames_done": 0, "num_frames": None}
    assert from_json(Job, {**job, "created_at": "2026-01-01T00:00:00+00:00", **state}).count == count


def test_revise_makes_a_job_of_a_finished_one(client: Lipwright, service: MemoryService, draft: Job) -> None:
    service.finish(draft.id)
    revised = client.jobs.revise(draft.id, turns=[{"number": 0, "text": "Hi."}], settings={"loudness_lufs": -16})
    assert (revised.revision_of, revised.options["loudness_lufs"]) == (draft.id, -16)
    with pytest.raises(UploadError):
        client.jobs.revise(draft.id)
