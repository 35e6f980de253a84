"""Jobs in review over a real socket: their turns, edits, sounds and approval, and what is refused."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from jobs.model.record import JobRecord
from storage.file_keys import job_cues_folder
from storage.local.api_keys import FileKeyRing
from tests.unit.api_server import MemoryService

VIDEO = ("face.png", b"\x89PNG\r\n\x1a\n" + bytes(64))
SRT = b"""1
00:00:01,000 --> 00:00:02,000
ANNA: Hello

2
00:00:03,000 --> 00:00:04,000
BOB: A longer answer
"""


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
    answer = http.get(f"/v1/jobs/{_submit(http)}/turns")
    assert _texts(answer) == ["Hello", "A longer answer"]
    assert answer.json()["status"] == "queued"
    assert [(turn["audio"], turn["natural_seconds"]) for turn in answer.json()["turns"]] == [(None, None)] * 2


def test_turns_of_a_job_with_one_speech_are_none(http: httpx.Client) -> None:
    files = {"video": VIDEO, "audio": ("a.wav", b"RIFF" + bytes(99))}
    job = http.post("/v1/jobs", files=files).json()
    assert job["links"]["turns"] is None
    assert _texts(http.get(f"/v1/jobs/{job['id']}/turns")) == []


def test_patch_changes_one_turn_and_speaks_it_again(http: httpx.Client, draft: JobRecord, turns: str) -> None:
    changed = http.patch(f"{turns}/1", json={"text": "Short", "voice": "nova", "end": None, "gain_db": -3})
    assert _texts(changed) == ["Hello", "Short"]
    first, second = changed.json()["turns"]
    assert (second["voice"], second["end"], second["gain_db"], second["start"]) == ("nova", None, -3, 3)
    assert changed.json()["version"] > draft.version
    assert http.get(turns).json() == changed.json()
    assert http.get(first["audio"]).content.endswith(b"Hello")
    assert http.get(second["audio"]).content.endswith(b"Short")


def test_patch_of_times_keeps_the_spoken_text(http: httpx.Client, service: MemoryService, turns: str) -> None:
    before = service.requests[0].job_id
    cues = {turn.text: turn.cue for turn in service.table.get_job(before).plan.turns}
    assert _texts(http.patch(f"{turns}/0", json={"start": 5, "end": 6})) == ["A longer answer", "Hello"]
    assert {turn.text: turn.cue for turn in service.table.get_job(before).plan.turns} == cues


def test_turns_are_added_split_and_removed(http: httpx.Client, turns: str) -> None:
    assert _texts(http.post(turns, json={"start": 2.2, "text": "Well"})) == ["Hello", "Well", "A longer answer"]
    split = http.post(f"{turns}/2/split", json={"start": 3.5, "text": "A longer", "next_text": "answer"})
    assert _texts(split) == ["Hello", "Well", "A longer", "answer"]
    halves = [(turn["speaker"], turn["start"], turn["end"]) for turn in split.json()["turns"][2:]]
    assert halves == [("BOB", 3, 3.5), ("BOB", 3.5, 4)]
    assert _texts(http.delete(f"{turns}/0")) == ["Well", "A longer", "answer"]


def test_delete_of_the_last_turn_is_refused(http: httpx.Client, turns: str) -> None:
    assert _texts(http.delete(f"{turns}/0")) == ["A longer answer"]
    assert "the last turn cannot be removed" in _refused(http.delete(f"{turns}/0"), 422, "option_invalid")


@pytest.mark.parametrize(
    "request_of",
    [
        ("PATCH", "/0", {"text": "New"}),
        ("POST", "", {"start": 9, "text": "New"}),
        ("DELETE", "/0", None),
        ("POST", "/0/split", {"start": 1.5, "text": "a", "next_text": "b"}),
    ],
)
def test_edit_of_an_older_version_is_refused(
    http: httpx.Client, turns: str, request_of: tuple[str, str, dict[str, Any] | None]
) -> None:
    method, path, body = request_of
    content: dict[str, Any] = {} if body is None else {"json": body}
    seen = http.get(turns).headers["etag"]
    assert http.patch(f"{turns}/1", json={"gain_db": 1}, headers={"If-Match": seen}).status_code == 200
    late = http.request(method, turns + path, headers={"If-Match": seen}, **content)
    assert "Read its turns again" in _refused(late, 409, "state_conflict")
    newest = http.get(turns).headers["etag"]
    assert http.request(method, turns + path, headers={"If-Match": f"W/{newest}"}, **content).status_code == 200


@pytest.mark.parametrize("if_match", ["*", "seven", '"' + "9" * 40 + '"', '""', "²"])
def test_edit_with_an_invalid_if_match_is_refused(http: httpx.Client, turns: str, if_match: str) -> None:
    headers = {b"If-Match": if_match.encode("latin-1")}
    answer = http.patch(f"{turns}/0", json={"text": "New"}, headers=headers)
    assert "If-Match: expected the ETag" in _refused(answer, 422, "option_invalid")


@pytest.mark.parametrize(
    ("method", "path", "body", "message"),
    [
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
    ],
)
def test_edit_with_invalid_fields_is_refused(
    http: httpx.Client, draft: JobRecord, turns: str, method: str, path: str, body: object, message: str
) -> None:
    assert message in _refused(http.request(method, turns + path, json=body), 422, "option_invalid")
    assert http.get(turns).json()["version"] == draft.version


@pytest.mark.parametrize("body", [b"", b"text=New", b"{", b"\xff", b'{"start": NaN}', b"[" * 60_000])
def test_edit_with_a_body_that_is_no_json_is_refused(http: httpx.Client, turns: str, body: bytes) -> None:
    _refused(http.patch(f"{turns}/0", content=body), 422, "option_invalid")


def test_edit_with_a_large_body_is_refused(http: httpx.Client, turns: str) -> None:
    body = json.dumps({"text": "x" * 70_000})
    assert "at most 65536 bytes" in _refused(http.patch(f"{turns}/0", content=body), 413, "media_too_large")


@pytest.mark.parametrize("number", [2, 2**53])
def test_edit_of_a_turn_that_does_not_exist_is_refused(http: httpx.Client, turns: str, number: int) -> None:
    for answer in (
        http.patch(f"{turns}/{number}", json={"text": "New"}),
        http.delete(f"{turns}/{number}"),
        http.post(f"{turns}/{number}/split", json={"start": 1.5, "text": "a", "next_text": "b"}),
        http.get(f"{turns}/{number}/audio"),
    ):
        _refused(answer, 404, "not_found")
    assert http.patch(f"{turns}/-1", json={"text": "New"}).status_code == 422


def test_edit_of_a_job_that_is_not_in_review_is_refused(http: httpx.Client, service: MemoryService) -> None:
    queued, ended = _submit(http, "false"), _submit(http, "false")
    service.finish(ended)
    for job, status in ((queued, "queued"), (ended, "succeeded")):
        for answer in (
            http.patch(f"/v1/jobs/{job}/turns/0", json={"text": "New"}),
            http.post(f"/v1/jobs/{job}/turns", json={"start": 9, "text": "New"}),
            http.delete(f"/v1/jobs/{job}/turns/0"),
            http.post(f"/v1/jobs/{job}/approve"),
        ):
            assert f"it is {status}, not in review" in _refused(answer, 409, "state_conflict")


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


def test_audio_of_an_unspoken_turn_is_not_found(http: httpx.Client) -> None:
    answer = http.get(f"/v1/jobs/{_submit(http)}/turns/0/audio")
    assert "no spoken text of turn 0" in _refused(answer, 404, "not_found")


def test_drafts_of_other_keys_are_not_found(http: httpx.Client, service: MemoryService) -> None:
    keys = FileKeyRing(service.files.root)
    mine, theirs = ({"X-API-Key": keys.add(name)[1]} for name in ("anna", "other"))
    job = service.review(_submit(http, **mine))
    path = f"/v1/jobs/{job.id}"
    for answer in (
        http.get(f"{path}/turns", headers=theirs),
        http.get(f"{path}/turns/0/audio", headers=theirs),
        http.post(f"{path}/turns", json={"start": 9, "text": "New"}, headers=theirs),
        http.patch(f"{path}/turns/0", json={"text": "New"}, headers=theirs),
        http.delete(f"{path}/turns/0", headers=theirs),
        http.post(f"{path}/turns/0/split", json={"start": 1.5, "text": "a", "next_text": "b"}, headers=theirs),
        http.post(f"{path}/approve", headers=theirs),
    ):
        _refused(answer, 404, "not_found")
    assert service.table.get_job(job.id) == job
    assert _texts(http.patch(f"{path}/turns/0", json={"text": "New"}, headers=mine))[0] == "New"


@pytest.mark.parametrize("job_id", ["0" * 32, "nonesuch", "..%2F"])
def test_turns_of_an_unknown_job_are_not_found(http: httpx.Client, job_id: str) -> None:
    for answer in (http.get(f"/v1/jobs/{job_id}/turns"), http.post(f"/v1/jobs/{job_id}/approve")):
        assert answer.status_code == 404
