"""Routes of the API over real sockets: lists, usage, engines, inspection, people, and jobs with turns."""

from __future__ import annotations

import base64
import csv
import json
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import httpx
import pysubs2
import pytest
from fastapi import FastAPI

from lipwright.api.v1.routes.engines import EngineRoutes
from lipwright.config import PipelineConfig, TtsConfig
from lipwright.jobs.messages import PeopleScan
from lipwright.jobs.model.base import utc_now
from lipwright.jobs.model.record import JobStatus
from lipwright.storage.file_keys import UPLOADS, job_file_key, person_picture_key
from lipwright.storage.file_store import FileStore
from lipwright.storage.local.api_keys import FileKeyRing
from lipwright_client import Lipwright, WaitTimeoutError
from models.engines.weights.store import WeightsStore
from models.people.report import PeopleReport, SeenPerson, SpeakerTurn, TimeRange
from tests.unit.api.edge_client import post, problem
from tests.unit.api_server import MemoryService, api_client, running
from tests.unit.cli.commands import succeed
from tests.unit.job_records import job_record
from tests.unit.media.watermark.marked_clip import IDENTIFIER, marked_lumas, unmarked_lumas, write_lumas
from tests.unit.models.engines.weights.toy_engines import ENGINES
from tests.unit.models.engines.weights.weights_files import safetensors_file
from tests.unit.on_disk import on_disk
from tests.unit.speech.speech_server import SpeechServer, speaking, tone


def test_list_jobs_has_summaries(http: httpx.Client, service: MemoryService) -> None:
    turns = json.dumps([{"start": number, "end": number + 0.5, "face": "person:1"} for number in range(5000)])
    job = post(http, headers={}, turns=turns).json()
    listed = http.get("/v1/jobs").raise_for_status()
    (summary,) = listed.json()["jobs"]
    assert summary.keys() == job.keys() - {"options", "report", "callback", "watermark_id"}
    turns_link = ("turns", f"{job['links']['self']}/turns")
    assert job["links"].items() - summary["links"].items() == {("subtitles", None), turns_link}
    assert len(listed.content) < 1500 < 500_000 < len(http.get(job["links"]["self"]).content)


def test_pages_stay_as_they_are_while_jobs_come_and_go(http: httpx.Client, service: MemoryService) -> None:
    ids = [post(http, headers={}).json()["id"] for _ in range(5)][::-1]
    first = http.get("/v1/jobs", params={"limit": 2}).json()
    post(http, headers={})
    service.table.delete_job(ids[1])  # the last of the page
    second = http.get("/v1/jobs", params={"limit": 2, "after": first["next_after"]}).json()
    last = http.get("/v1/jobs", params={"limit": 2, "after": second["next_after"]}).json()
    pages = [[job["id"] for job in page["jobs"]] for page in (first, second, last)]
    assert pages == [ids[:2], ids[2:4], ids[4:]] and last["next_after"] is None


def test_list_jobs_with_filters_lists_those_jobs(http: httpx.Client, service: MemoryService) -> None:
    ids = [
        post(http, headers={}, metadata=json.dumps(words)).json()["id"]
        for words in ({"order": "17"}, {"order": "17", "it's": 'a "b"'}, {"order": "18"}, {})
    ]
    service.finish(ids[0])

    def listed(**query: str) -> list[str]:
        return [job["id"] for job in http.get("/v1/jobs", params=query).raise_for_status().json()["jobs"]]

    assert listed(metadata='{"order": "17"}') == ids[1::-1]
    assert listed(metadata=json.dumps({"order": "17", "it's": 'a "b"'})) == [ids[1]]
    assert listed(metadata='{"order": "17"}', status="queued") == [ids[1]]
    assert listed(metadata='{"17": "order"}') == []
    for wrong in ("17", '{"a": 1}', r'{"a": "\u0000"}', r'{"\u0000": "a"}'):
        refused = problem(http.get("/v1/jobs", params={"metadata": wrong}), 422, "option_invalid")
        assert "metadata" in refused["detail"]


def add_jobs(service: MemoryService, *owners: str | None) -> None:
    for owner in owners:
        job = service.table.insert_job(job_record(owner=owner))
        service.table.update_job(job.id, status=JobStatus.SUCCEEDED)


def rows_of(answer: httpx.Response) -> Any:
    assert answer.status_code == 200, answer.text
    return answer.json()["usage"]


def test_get_usage_shows_each_key_its_own(tmp_path: Path) -> None:
    service, ring = MemoryService(tmp_path), FileKeyRing(tmp_path)
    (first, first_key), (second, second_key) = ring.add("first"), ring.add("second")
    add_jobs(service, first.id, first.id, second.id)
    with api_client(service) as http:
        assert http.get("/v1/usage").status_code == 401
        for key, own, num in ((first_key, first.id, 2), (second_key, second.id, 1)):
            (row,) = rows_of(http.get("/v1/usage", headers={"X-API-Key": key}))
            assert (row["key"], row["day"]) == (own, str(utc_now().date()))
            assert (row["jobs_submitted"], row["jobs_succeeded"], row["stored_bytes"]) == (num, num, 0)


def test_get_usage_without_keys_shows_all(http: httpx.Client, service: MemoryService) -> None:
    add_jobs(service, None, "revoked")
    assert [row["key"] for row in rows_of(http.get("/v1/usage"))] == [None, "revoked"]
    assert rows_of(http.get("/v1/usage", params={"from": "2020-01-01", "to": "2020-12-31"})) == []
    post(http)
    assert service.asked[-1].is_job
    for days in (("2020-02-01", "2020-01-31"), ("2020-01-01", "2021-01-02"), ("yesterday", "2020-01-01")):
        answer = http.get("/v1/usage", params=dict(zip(("from", "to"), days, strict=True)))
        problem(answer, 422, "option_invalid")


def test_get_usage_as_csv(http: httpx.Client, service: MemoryService) -> None:
    add_jobs(service, "a", "b")
    for params, accept in (({"format": "csv"}, "*/*"), ({}, "text/csv")):
        answer = http.get("/v1/usage", params=params, headers={"Accept": accept})
        assert answer.headers["content-type"].startswith("text/csv")
        rows = list(csv.DictReader(answer.text.splitlines()))
        assert [(row["key"], row["jobs_succeeded"]) for row in rows] == [("a", "1"), ("b", "1")]
        assert all(date.fromisoformat(row["day"]) == utc_now().date() for row in rows)
        assert rows_of(http.get("/v1/usage", params={"format": "json"}, headers={"Accept": accept}))


@pytest.fixture
def toy_http(tmp_path: Path) -> Iterator[httpx.Client]:
    app = FastAPI()
    app.include_router(EngineRoutes(FileStore(tmp_path), PipelineConfig(engine="free"), ENGINES).router())
    with running(app) as url, httpx.Client(base_url=url, timeout=60, trust_env=False) as client:
        yield client


def test_engines_and_what_they_lack(toy_http: httpx.Client, tmp_path: Path) -> None:
    answer = toy_http.get("/v1/engines").raise_for_status()
    free, toy = answer.json()["engines"]
    known = {"name": "free", "title": "Free faces", "scales_movement": False, "is_default": True}
    assert free == {**known, "is_installed": True, "missing": [], "licences": []}
    assert (toy["name"], toy["is_default"], toy["is_installed"]) == ("toy", False, False)
    command = "lipwright models add FILE_OR_URL --engine toy --role generator"
    needed = {"role": "generator", "title": "Toy generator", "is_required": True, "add_command": command}
    assert toy["missing"][0] == needed
    assert [role["is_required"] for role in toy["missing"]] == [True, False]
    assert toy["licences"][0] == "Toy generator: Personal and research use only."
    assert str(tmp_path) not in answer.text
    store = WeightsStore(tmp_path / "weights", ENGINES)
    store.add(safetensors_file(tmp_path / "w"))
    store.add(safetensors_file(tmp_path / "v", fill=1), name="gan")
    engines = {each["name"]: each for each in toy_http.get("/v1/engines").json()["engines"]}
    assert list(engines) == ["free", "toy", "toy:gan"]
    assert engines["toy"]["is_installed"] and engines["toy:gan"]["is_installed"]
    assert [role["role"] for role in engines["toy"]["missing"]] == ["mixer"]


def test_engines_need_an_api_key(http: httpx.Client, service: MemoryService) -> None:
    assert [each["name"] for each in http.get("/v1/engines").json()["engines"] if each["is_default"]] == ["warp"]
    FileKeyRing(service.files.root).add("a")
    problem(http.get("/v1/engines"), 401, "unauthorized")


@pytest.mark.timeout(120)
def test_inspect_names_the_job_of_a_marked_video_only(
    http: httpx.Client, service: MemoryService, tmp_path: Path
) -> None:
    mine = post(http, headers={}).json()["id"]
    post(http, headers={})
    service.table.update_job(mine, watermark_id=IDENTIFIER.hex())
    video = write_lumas(tmp_path / "a.mp4", marked_lumas(num_frames=120), 30).read_bytes()
    places, uploads = set(service.places), service.uploads()
    labels = http.post("/v1/inspect", files={"file": ("a.mp4", video)}).raise_for_status().json()
    assert (labels["verdict"], labels["aigc"], labels["c2pa"]) == ("synthetic", None, None)
    assert labels["watermark"]["identifier"] == IDENTIFIER.hex()
    assert labels["watermark"]["false_positive_rate"] < 1e-6
    assert [job["id"] for job in labels["jobs"]] == [mine]
    assert any(IDENTIFIER.hex() in sentence for sentence in labels["description"])
    video = write_lumas(tmp_path / "b.mp4", unmarked_lumas(5), 30).read_bytes()
    labels = http.post("/v1/inspect", files={"file": ("b.mp4", video)}).raise_for_status().json()
    assert (labels["verdict"], labels["watermark"], labels["jobs"]) == ("unlabelled", None, [])
    refused = http.post("/v1/inspect", files={"file": ("my film.mp4", b"hello")})
    assert problem(refused, 422, "media_invalid")["detail"].startswith("my film.mp4: expected")
    assert (service.places, service.uploads()) == (places, uploads), "nothing of the requests stays"


BEGIN, END = TimeRange(start=0, end=1), TimeRange(start=3, end=4)
REPORT = PeopleReport(
    people=(
        SeenPerson(number=0, seen=(TimeRange(start=0, end=4),), face_pixels=120.5, frontal_share=1),
        SeenPerson(number=1, seen=(BEGIN, END), face_pixels=80, frontal_share=0.5),
    ),
    turns=(
        SpeakerTurn(start=0, end=2.5, person=1, confidence=0.97),
        SpeakerTurn(start=3, end=4, person=None, confidence=0.8),
    ),
    audio_offset_ms=-40,
)


@pytest.fixture
def avatar_id(service: MemoryService, url: str) -> str:
    service.scans = [PeopleScan(0.25, None), PeopleScan(1, REPORT)]
    with Lipwright(url) as client:
        return client.avatars.create(video=b"film").id


def test_people_are_searched_between_two_requests(http: httpx.Client, service: MemoryService, avatar_id: str) -> None:
    path = f"/v1/avatars/{avatar_id}/people"
    first = http.get(path)
    assert (first.status_code, first.headers["retry-after"]) == (202, "1")
    nothing: dict[str, Any] = {"people": [], "turns": [], "audio_offset_ms": None}
    assert first.json() == {"status": "searching", "progress": 0.25, **nothing}
    second = http.get(path)
    assert second.status_code == 200 and "retry-after" not in second.headers
    found = second.json()
    assert [person["speaking_seconds"] for person in found["people"]] == [0, 2.5]
    assert found["people"][1]["seen"] == [{"start": 0, "end": 1}, {"start": 3, "end": 4}]
    assert found["people"][1]["thumbnail"] == f"{path}/1/thumbnail"
    assert found["turns"][0] == {"start": 0, "end": 2.5, "person": 1, "confidence": 0.97}
    assert http.get("/v1/avatars/nobody/people").status_code == 404
    key = person_picture_key(service.table.get_avatar(avatar_id).key, 1)
    on_disk(service.files, key).write_bytes(b"\xff\xd8 a face")
    answer = http.get(f"{path}/1/thumbnail")
    assert (answer.content, answer.headers["content-type"]) == (b"\xff\xd8 a face", "image/jpeg")
    again = http.get(f"{path}/1/thumbnail", headers={"if-none-match": answer.headers["etag"]})
    assert again.status_code == 304
    assert http.get(f"{path}/2/thumbnail").status_code == 404
    assert http.get(f"{path}/-1/thumbnail").status_code in (404, 422)


def test_client_waits_for_the_people(service: MemoryService, url: str, avatar_id: str) -> None:
    with Lipwright(url) as client:
        found = client.avatars.people(avatar_id)
        assert [(person.number, person.speaking_seconds) for person in found.people] == [(0, 0), (1, 2.5)]
        assert found.people[1].seen[1].start == 3 and found.turns[1].person is None
        service.scans = [PeopleScan(0.5, None)]
        with pytest.raises(WaitTimeoutError, match="were not found within"):
            client.avatars.people(avatar_id, timeout_s=0.3)


def test_people_command_lists_people_and_turns(url: str, avatar_id: str) -> None:
    command = ("avatars", "people", avatar_id, "--server", url)
    lines = succeed(*command).output.splitlines()
    assert "person:1  0.0-1.0, 3.0-4.0" in lines[2] and "50%" in lines[2]
    turns = succeed(*command, "--turns").output.splitlines()
    assert "person:1" in turns[1] and "nobody seen" in turns[2]
    assert json.loads(succeed(*command, "--json").output)["people"][0]["face_pixels"] == 120.5


VIDEO = ("face.png", b"\x89PNG\r\n\x1a\n" + bytes(64))
SRT = b"1\n00:00:01,000 --> 00:00:02,000\nANNA: Hello\n\n2\n00:00:03,000 --> 00:00:03,400\nBOB: A longer answer\n"
RTTM = b"SPEAKER talk 1 0.5 1.5 <NA> <NA> A <NA> <NA>\n"
SPEAKERS = json.dumps({"Anna": {"face": "0", "voice": "nova"}, "BOB": {"face": "1"}})


@pytest.fixture(scope="module")
def voice() -> Iterator[SpeechServer]:
    with speaking() as server:
        yield server


@pytest.fixture
def api_settings(voice: SpeechServer) -> Iterator[dict[str, Any]]:
    """A voice that no request asks."""
    yield {"tts": TtsConfig(url=voice.url)}
    assert not voice.asked


def _post(http: httpx.Client, files: dict[str, Any] | None = None, **fields: Any) -> httpx.Response:
    texts = {name: each if isinstance(each, str) else json.dumps(each) for name, each in fields.items()}
    return http.post("/v1/jobs", files={"video": VIDEO, **(files or {})}, data=texts)


def _turns(answer: httpx.Response) -> list[dict[str, Any]]:
    assert answer.status_code == 202, answer.text
    found: list[dict[str, Any]] = answer.json()["options"]["turns"]
    defaults = {"gain_db": 0, "audio": "audio", "audio_start": 0}
    return [{name: value for name, value in turn.items() if value != defaults.get(name)} for turn in found]


def _refused(answer: httpx.Response, service: MemoryService) -> str:
    assert (answer.status_code, answer.json()["code"]) == (422, "option_invalid"), answer.text
    assert not service.requests
    assert not service.files.stored.entries(UPLOADS)
    return str(answer.json()["detail"])


def test_turns_of_several_files_and_texts(http: httpx.Client, service: MemoryService) -> None:
    turns: list[dict[str, Any]] = [
        {"start": 1, "audio": "audio_anna", "face": "0"},
        {"start": 2, "end": 3, "face": "1", "audio_start": 1, "gain_db": -6},
        {"start": 5, "face": "1", "text": "Hi", "original_text": "Hallo"},
        {"start": 5.2, "face": "1", "text": "a", "voice": "nova"},
    ]
    files = {"audio": ("bob.wav", tone(2)), "audio_anna": ("anna.wav", tone(1))}
    answer = _post(http, files, turns=turns, idle_mouths="closed", voice="echo")
    assert _turns(answer) == [*turns[:2], {**turns[2], "voice": "echo"}, turns[3]]
    (request,) = service.requests
    assert (request.options.idle_mouths, request.options.loop) == ("closed", "source")
    assert not request.plan.is_complete
    labels = {name: file.label for name, file in request.audio_files.items()}
    assert labels == {"audio": "bob.wav", "audio_anna": "anna.wav"}


def test_a_json_body(http: httpx.Client, service: MemoryService) -> None:
    body = {
        "video": base64.b64encode(VIDEO[1] * 2).decode(),
        "audio_anna": "data:audio/wav;base64," + base64.b64encode(tone(1)).decode(),
        "turns": [{"start": 1, "audio": "audio_anna"}],
    }
    key = {"Idempotency-Key": "one"}
    answer = http.post("/v1/jobs", json=body, headers=key)
    assert _turns(answer) == [{"start": 1}], "the only file is the speech"
    assert answer.json()["links"]["subtitles"] is None
    (request,) = service.requests
    assert (set(request.audio_files), set(request.plan.audio)) == ({"audio_anna"}, {"audio"})
    assert http.post("/v1/jobs", json=body, headers=key).json()["id"] == request.job_id
    other = body | {"audio_anna": "data:audio/wav;base64," + base64.b64encode(tone(2)).decode()}
    assert http.post("/v1/jobs", json=other, headers=key).json()["code"] == "idempotency_key_reused"


def test_subtitles_are_stored_and_spoken_later(http: httpx.Client, service: MemoryService) -> None:
    answer = _post(http, {"subtitles": ("de.srt", SRT)}, speakers=SPEAKERS, voice="echo", subtitles_output="track")
    assert _turns(answer) == [
        {"face": "0", "start": 1, "end": 2, "text": "Hello", "voice": "nova", "speaker": "ANNA"},
        {"face": "1", "start": 3, "end": 3.4, "text": "A longer answer", "voice": "echo", "speaker": "BOB"},
    ]
    assert "A longer answer" in http.get(answer.json()["links"]["subtitles"]).text
    (request,) = service.requests
    assert (request.options.subtitles, request.options.loop) == ("track", "source")
    assert (request.plan.is_complete, request.plan.audio) == (False, {})
    assert on_disk(service.files, job_file_key(answer.json()["id"], "subtitles")).read_bytes() == SRT
    assert not service.files.stored.entries(UPLOADS).keys() - {request.video.key}


def test_create_job_with_invalid_turns_is_refused(http: httpx.Client, service: MemoryService) -> None:
    cases: list[Any] = [
        ([], {}, "audio or text is required, or turns, subtitles or translate_to"),
        (["audio"], {"turns": "["}, "turns: expected a JSON list of turns"),
        (["audio"], {"turns": "[]"}, "turns"),
        (["audio"], {"turns": [{"start": -1}]}, "turns"),
        (["audio"], {"turns": '[{"start": NaN}]'}, "turns"),
        (["audio"], {"turns": [{"start": 0}] * 5001}, "at most 5000, found 5001"),
        (["audio"], {"turns": [{"start": 0, "nose": 1}]}, "nose"),
        (["audio"], {"turns": [{"start": 0}], "text": "x"}, "text or turns, not both"),
        (["audio"], {"turns": [{"start": 0}], "loop": "hold"}, "leave loop out"),
        (["audio"], {"turns": [{"start": 0}], "speakers": SPEAKERS}, "speakers needs diarization, subtitles or tr"),
        (["audio"], {"turns": [{"start": 0}], "subtitles_output": "track"}, "subtitles_output needs turns with texts"),
        (["audio"], {"turns": [{"start": 0, "speed": 2}]}, "speed"),
        (["audio"], {"turns": [{"start": 0, "cue": "a"}]}, "cue"),
        (["audio_b"], {"turns": [{"start": 0, "text": "a", "audio": "audio_b"}]}, "text or audio, not both"),
        (["audio", "audio_b"], {}, "audio_b needs turns"),
        (["audio", "subtitles"], {}, "audio or subtitles, not both"),
        (["diarization"], {}, "diarization needs audio"),
        (["subtitles"], {"speakers": '{"Anna": {"nose": 1}}'}, "nose"),
        (["subtitles"], {"idle_mouths": "wide"}, "idle_mouths"),
        ([], {"turns": [{"start": 0, "text": "x" * 4097}]}, "turns"),
        (["audio"], {"turns": [{"start": 0}], "review": "true"}, "review needs turns with texts, subtitles or tr"),
        (["subtitles"], {"subtitles_output": "track", "format": "webm"}, "subtitles_output=track is not possible"),
        ([], {"idle_mouths": "closed", "text": "x"}, "idle_mouths needs turns"),
        (["audio"], {"max_audio_stretch": "1.2"}, "max_audio_stretch needs loop=retime"),
        (["audio"], {"max_audio_stretch": "1.5", "loop": "retime"}, "max_audio_stretch"),
    ]
    for files, fields, message in cases:
        content = {"subtitles": ("a.srt", SRT), "diarization": ("a.rttm", RTTM)}
        parts = {name: content.get(name, ("a.wav", tone(1))) for name in files}
        assert message in _refused(_post(http, parts, **fields), service)


def test_subtitles_are_downloaded(http: httpx.Client) -> None:
    job, without = (
        f"/v1/jobs/{_post(http, files).json()['id']}/subtitles"
        for files in ({"subtitles": ("de.srt", SRT)}, {"audio": ("a.wav", tone(1))})
    )
    for kind, media_type in (("srt", "application/x-subrip"), ("vtt", "text/vtt; charset=utf-8")):
        answer = http.get(f"{job}.{kind}")
        assert (answer.status_code, answer.headers["content-type"]) == (200, media_type)
        found = [(event.start, event.end, event.plaintext) for event in pysubs2.SSAFile.from_string(answer.text)]
        assert found == [(1000, 2000, "Hello"), (3000, 3400, "A longer answer")]
        assert http.get(f"{without}.{kind}").status_code == 404
    assert http.get(f"{without}.exe").status_code == 422


def test_music_plays_under_any_job(http: httpx.Client, service: MemoryService) -> None:
    files = {"video": VIDEO, "audio": ("bob.wav", tone(2)), "music": ("song.wav", tone(1))}
    answer = http.post("/v1/jobs", files=files)
    assert answer.json()["options"]["music_gain_db"] == -12
    assert _turns(_post(http, {key: files[key] for key in ("audio", "music")}, turns=[{"start": 1}], music_gain_db=-20))
    plain, with_turns = service.requests
    assert plain.options.turns is None
    for request, gain_db in ((plain, -12), (with_turns, -20)):
        assert request.options.music_gain_db == gain_db
        labels = {name: file.label for name, file in request.audio_files.items()}
        assert labels == {"audio": "bob.wav", "music": "song.wav"}
