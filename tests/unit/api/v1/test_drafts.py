"""Jobs in review over a real socket: their turns, edits, sounds and approval, and revisions of finished jobs."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import httpx
import pytest
from starlette.requests import Request

from lipwright.api.v1.routes.drafts import DraftRoutes
from lipwright.jobs.model.record import JobRecord, JobStatus
from lipwright.jobs.requests import Caller
from lipwright.storage.file_keys import job_cues_folder
from lipwright.storage.local.api_keys import FileKeyRing
from tests.unit.api_server import MemoryService

VIDEO = ("face.png", b"\x89PNG\r\n\x1a\n" + bytes(64))
SRT = b"1\n00:00:01,000 --> 00:00:02,000\nANNA: Hello\n\n2\n00:00:03,000 --> 00:00:04,000\nBOB: A longer answer\n"


def _submit(http: httpx.Client, review: str = "true", **headers: str) -> str:
    files = {"video": VIDEO, "subtitles": ("de.srt", SRT)}
    answer = http.post("/v1/jobs", files=files, data={"review": review}, headers=headers)
    assert answer.status_code == 202, answer.text
    return str(answer.json()["id"])


@pytest.fixture
def draft(http: httpx.Client, service: MemoryService) -> JobRecord:
    """A job with two spoken texts that waits for review."""
    return service.review(_submit(http))


@pytest.fixture
def turns(draft: JobRecord) -> str:
    """The path of its turns."""
    return f"/v1/jobs/{draft.id}/turns"


def _texts(answer: httpx.Response) -> list[str]:
    assert answer.status_code == 200, answer.text
    assert answer.headers["etag"] == f'"{answer.json()["version"]}"'
    assert answer.headers["cache-control"] == "no-store"
    return [turn["text"] for turn in answer.json()["turns"]]


def _refused(answer: httpx.Response, status: int, code: str) -> str:
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text
    return str(answer.json()["detail"])


def test_turns_of_a_draft_say_how_long_they_are(http: httpx.Client, draft: JobRecord, turns: str) -> None:
    job = http.get(f"/v1/jobs/{draft.id}").json()
    assert (job["status"], job["links"]["turns"]) == ("review", turns)
    answer = http.get(turns)
    assert _texts(answer) == ["Hello", "A longer answer"]
    assert (answer.json()["status"], answer.json()["version"]) == ("review", draft.version)
    assert answer.json()["turns"][0] == {
        **{"number": 0, "face": None, "speaker": "ANNA", "start": 1, "end": 2, "text": "Hello"},
        **{"original_text": None, "voice": None, "gain_db": 0, "expression": None, "speed": None, "cut_seconds": None},
        **{"natural_seconds": draft.plan.turns[0].natural_seconds, "audio": f"{turns}/0/audio", "action": None},
    }


def test_turns_of_a_queued_job_are_listed_unspoken(http: httpx.Client) -> None:
    path = f"/v1/jobs/{_submit(http)}/turns"
    answer = http.get(path)
    assert _texts(answer) == ["Hello", "A longer answer"]
    assert answer.json()["status"] == "queued"
    assert [(turn["audio"], turn["natural_seconds"]) for turn in answer.json()["turns"]] == [(None, None)] * 2
    assert "no spoken text of turn 0" in _refused(http.get(f"{path}/0/audio"), 404, "not_found")
    job = http.post("/v1/jobs", files={"video": VIDEO, "audio": ("a.wav", b"RIFF" + bytes(99))}).json()
    assert job["links"]["turns"] is None
    assert _texts(http.get(f"/v1/jobs/{job['id']}/turns")) == []


def test_patch_speaks_one_turn_again(http: httpx.Client, service: MemoryService, draft: JobRecord, turns: str) -> None:
    changed = http.patch(f"{turns}/1", json={"text": "Short", "voice": "nova", "end": None, "gain_db": -3})
    assert _texts(changed) == ["Hello", "Short"]
    first, second = changed.json()["turns"]
    assert (second["voice"], second["end"], second["gain_db"], second["start"]) == ("nova", None, -3, 3)
    assert changed.json()["version"] > draft.version
    assert http.get(turns).json() == changed.json()
    assert http.get(first["audio"]).content.endswith(b"Hello")
    assert http.get(second["audio"]).content.endswith(b"Short")
    cues = {turn.text: turn.cue for turn in service.table.get_job(draft.id).plan.turns}
    assert _texts(http.patch(f"{turns}/0", json={"start": 5, "end": 6})) == ["Short", "Hello"]
    assert {turn.text: turn.cue for turn in service.table.get_job(draft.id).plan.turns} == cues, "only the time changes"


def test_turns_are_added_split_and_removed(http: httpx.Client, turns: str) -> None:
    assert _texts(http.post(turns, json={"start": 2.2, "text": "Well"})) == ["Hello", "Well", "A longer answer"]
    split = http.post(f"{turns}/2/split", json={"start": 3.5, "text": "A longer", "next_text": "answer"})
    assert _texts(split) == ["Hello", "Well", "A longer", "answer"]
    halves = [(turn["speaker"], turn["start"], turn["end"]) for turn in split.json()["turns"][2:]]
    assert halves == [("BOB", 3, 3.5), ("BOB", 3.5, 4)]
    assert _texts(http.delete(f"{turns}/0")) == ["Well", "A longer", "answer"]
    for _ in range(2):
        http.delete(f"{turns}/0").raise_for_status()
    assert "the last turn cannot be removed" in _refused(http.delete(f"{turns}/0"), 422, "option_invalid")


def _edits(turns: str, number: int = 0) -> list[dict[str, Any]]:
    """Arguments of `http.request` for an edit of each kind."""
    split = {"start": 1.5, "text": "a", "next_text": "b"}
    return [
        {"method": "PATCH", "url": f"{turns}/{number}", "json": {"text": "New"}},
        {"method": "POST", "url": f"{turns}/{number}/split", "json": split},
        {"method": "DELETE", "url": f"{turns}/{number}"},
        {"method": "POST", "url": turns, "json": {"start": 9, "text": "New"}},
    ]


def test_edit_of_an_older_version_is_refused(http: httpx.Client, turns: str) -> None:
    for edit in _edits(turns):
        seen = http.get(turns).headers["etag"]
        assert http.patch(f"{turns}/1", json={"gain_db": 1}, headers={"If-Match": seen}).status_code == 200
        late = http.request(**edit, headers={"If-Match": seen})
        assert "Read its turns again" in _refused(late, 409, "state_conflict"), edit
        newest = http.get(turns).headers["etag"]
        assert http.request(**edit, headers={"If-Match": f"W/{newest}"}).status_code == 200, edit


def test_edit_with_an_invalid_if_match_is_refused(http: httpx.Client, turns: str) -> None:
    for if_match in ("*", "seven", '"' + "9" * 40 + '"', '""', "²"):
        headers = {b"If-Match": if_match.encode("latin-1")}
        answer = http.patch(f"{turns}/0", json={"text": "New"}, headers=headers)
        assert "If-Match: expected the ETag" in _refused(answer, 422, "option_invalid")


def test_edit_with_invalid_fields_is_refused(http: httpx.Client, draft: JobRecord, turns: str) -> None:
    cases: list[tuple[str, str, object, str]] = [
        ("PATCH", "/0", {}, "send a field to change"),
        ("PATCH", "/0", {"nose": 1}, "nose"),
        ("PATCH", "/0", {"speed": 2}, "speed"),
        ("PATCH", "/0", {"text": ""}, "text"),
        ("PATCH", "/0", {"text": None}, "text: must be a string"),
        ("PATCH", "/0", {"start": None}, "start: must be a number"),
        ("PATCH", "/0", {"text": "x" * 4097}, "text"),
        ("PATCH", "/0", {"start": -1}, "start"),
        ("PATCH", "/0", {"gain_db": 100}, "gain_db"),
        ("PATCH", "/0", [], "Expected a JSON object"),
        ("POST", "", {"text": "New"}, "start"),
        ("POST", "", {"start": 1}, "text"),
        ("POST", "", {"start": 1, "text": "New", "audio": "audio"}, "audio"),
        ("POST", "/0/split", {"start": 1.5, "text": "a"}, "next_text"),
        ("POST", "/0/split", {"start": 3, "text": "a", "next_text": "b"}, "between its start and its end"),
    ]
    for method, path, body, message in cases:
        assert message in _refused(http.request(method, turns + path, json=body), 422, "option_invalid"), body
        assert http.get(turns).json()["version"] == draft.version


def test_edit_with_a_body_that_is_no_json_is_refused(http: httpx.Client, turns: str) -> None:
    for body in (b"", b"text=New", b"{", b"\xff", b'{"start": NaN}', b"[" * 60_000):
        _refused(http.patch(f"{turns}/0", content=body), 422, "option_invalid")
    large = http.patch(f"{turns}/0", content=json.dumps({"text": "x" * 70_000}))
    assert "at most 65536 bytes" in _refused(large, 413, "media_too_large")


def test_edit_of_a_turn_that_does_not_exist_is_refused(http: httpx.Client, turns: str) -> None:
    for number in (2, 2**53):
        for edit in _edits(turns, number)[:3]:
            _refused(http.request(**edit), 404, "not_found")
        _refused(http.get(f"{turns}/{number}/audio"), 404, "not_found")
    assert http.patch(f"{turns}/-1", json={"text": "New"}).status_code == 422
    for job_id in ("0" * 32, "nonesuch", "..%2F"):
        for answer in (http.get(f"/v1/jobs/{job_id}/turns"), http.post(f"/v1/jobs/{job_id}/approve")):
            assert answer.status_code == 404


def test_edit_of_a_job_that_is_not_in_review_is_refused(http: httpx.Client, service: MemoryService) -> None:
    queued, ended = _submit(http, "false"), _submit(http, "false")
    service.finish(ended)
    for job, status in ((queued, "queued"), (ended, "succeeded")):
        for edit in (*_edits(f"/v1/jobs/{job}/turns"), {"method": "POST", "url": f"/v1/jobs/{job}/approve"}):
            assert f"it is {status}, not in review" in _refused(http.request(**edit), 409, "state_conflict")


def test_approve_renders_a_draft_and_can_be_repeated(http: httpx.Client, draft: JobRecord, turns: str) -> None:
    for _ in range(2):
        approved = http.post(f"/v1/jobs/{draft.id}/approve")
        assert (approved.status_code, approved.json()["status"]) == (202, "queued")
        assert approved.headers["location"] == f"/v1/jobs/{draft.id}"
    assert "not in review" in _refused(http.patch(f"{turns}/0", json={"text": "New"}), 409, "state_conflict")
    assert _texts(http.get(turns)) == ["Hello", "A longer answer"]


def test_audio_of_a_turn_supports_ranges(http: httpx.Client, service: MemoryService, draft: JobRecord) -> None:
    path = f"/v1/jobs/{draft.id}/turns/0/audio"
    whole = http.get(path)
    assert (whole.status_code, whole.headers["content-type"]) == (200, "audio/wav")
    assert "sandbox" in whole.headers["content-security-policy"]
    assert whole.content.endswith(b"Hello")
    part = http.get(path, headers={"Range": "bytes=-5"})
    assert (part.status_code, part.content) == (206, b"Hello")
    beyond = http.get(path, headers={"Range": "bytes=9999-"})
    assert beyond.status_code == 416
    service.files.stored.remove(f"{job_cues_folder(draft.id)}/{draft.plan.turns[0].cue}")
    assert "no spoken text of turn 0" in _refused(http.get(path), 404, "not_found")


def test_drafts_of_other_keys_are_not_found(http: httpx.Client, service: MemoryService) -> None:
    keys = FileKeyRing(service.files.root)
    mine, theirs = ({"X-API-Key": keys.add(name)[1]} for name in ("anna", "other"))
    job = service.review(_submit(http, **mine))
    path = f"/v1/jobs/{job.id}"
    requests = _edits(f"{path}/turns") + [{"method": "POST", "url": f"{path}/approve"}]
    requests += [{"method": "GET", "url": path + part} for part in ("/turns", "/turns/0/audio")]
    for request in requests:
        _refused(http.request(**request, headers=theirs), 404, "not_found")
    assert service.table.get_job(job.id) == job
    assert _texts(http.patch(f"{path}/turns/0", json={"text": "New"}, headers=mine))[0] == "New"


def _revise(http: httpx.Client, job_id: str, **changes: Any) -> httpx.Response:
    return http.post(f"/v1/jobs/{job_id}/revisions", json=changes)


def test_revise_succeeded_job_answers_202_with_the_new_job(service: MemoryService, http: httpx.Client) -> None:
    job_id = _submit(http)
    for status in ("queued", "running"):
        service.table.update_job(job_id, status=JobStatus(status))
        assert status in _refused(_revise(http, job_id, removed_turns=[0]), 409, "state_conflict")
    service.finish(job_id)
    response = _revise(http, job_id, settings={"loudness_lufs": -16})
    revised = response.json()
    assert response.status_code == 202
    assert (revised["revision_of"], revised["status"]) == (job_id, "queued")
    assert revised["options"]["loudness_lufs"] == -16
    assert response.headers["location"] == f"/v1/jobs/{revised['id']}"
    assert http.get(f"/v1/jobs/{job_id}").json()["status"] == "succeeded"
    http.delete(f"/v1/jobs/{job_id}")
    assert _revise(http, job_id, removed_turns=[0]).status_code == 404


def test_revise_all_turns_of_long_film_is_accepted(service: MemoryService, http: httpx.Client) -> None:
    job_id = service.finish(_submit(http)).id
    turns = [{"number": number, "text": "A subtitle of forty characters in a film."} for number in range(2000)]
    assert _revise(http, job_id, turns=turns).status_code == 202
    assert len(service.revisions[-1].turns) == len(turns)


def test_revise_invalid_body_is_422(service: MemoryService, http: httpx.Client) -> None:
    job_id = service.finish(_submit(http)).id
    cases: list[tuple[dict[str, Any], str]] = [
        ({}, "send turns, removed_turns, added_turns, settings or review=true"),
        ({"turns": [{"text": "x"}]}, "number"),
        ({"turns": [{"number": -1, "text": "x"}]}, "number"),
        ({"turns": [{"number": 0, "txt": "x"}]}, "txt"),
        ({"turns": [{"number": 0}]}, "send a field to change"),
        ({"added_turns": [{"start": 1}]}, "text"),
        ({"settings": {"loudness_lufs": 3}}, "settings.loudness_lufs"),
        ({"settings": {"subtitles_output": "aside"}}, "settings.subtitles_output"),
    ]
    for changes, message in cases:
        assert message in _refused(_revise(http, job_id, **changes), 422, "option_invalid"), changes


class OneJob:
    """A service that has one job."""

    def __init__(self, job: JobRecord) -> None:
        self._job = job

    async def get_job(self, job_id: str, owner: str | None) -> JobRecord:
        return self._job


async def test_list_turns_of_large_draft_frees_the_event_loop(draft: JobRecord) -> None:
    plan = draft.plan.with_turns(list(draft.plan.turns) * 2500)
    fakes: tuple[Any, Any] = OneJob(draft.model_copy(update={"plan": plan})), None
    routes = DraftRoutes(*fakes)
    request = Request({"type": "http", "headers": [], "state": {"caller": Caller(None), "base_url": ""}})

    async def longest_gap() -> float:
        """The longest time in which the event loop ran nothing else, as a share of the time of the request."""
        task, last, gap = asyncio.create_task(routes.list_turns(draft.id, request)), time.perf_counter(), 0.0
        began = last
        while not task.done():
            await asyncio.sleep(0)
            last, gap = (now := time.perf_counter()), max(gap, now - last)
        assert len(json.loads(bytes((await task).body))["turns"]) == 5000
        return gap / (last - began)

    assert min([await longest_gap() for _ in range(5)]) < 0.5, "a busy machine can delay one of them"
