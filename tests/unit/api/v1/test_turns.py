"""Jobs in which several people speak: how turns, diarizations and subtitles are sent, and what is refused at once."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Any

import httpx
import pysubs2
import pytest

from config import TtsConfig
from storage.file_keys import UPLOADS, job_file_key
from tests.unit.api_server import MemoryService
from tests.unit.on_disk import on_disk
from tests.unit.speech.speech_server import SpeechServer, speaking, tone

VIDEO = ("face.png", b"\x89PNG\r\n\x1a\n" + bytes(64))
SRT = b"""1
00:00:01,000 --> 00:00:02,000
ANNA: Hello

2
00:00:03,000 --> 00:00:03,400
BOB: A longer answer
"""
RTTM = b"SPEAKER talk 1 0.5 1.5 <NA> <NA> A <NA> <NA>\nSPEAKER talk 1 3 1 <NA> <NA> B <NA> <NA>\n"
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


def test_audio_of_several_fields(http: httpx.Client, service: MemoryService) -> None:
    turns = [{"start": 1, "audio": "audio_anna", "face": "0"}, {"start": 2, "end": 3, "face": "1", "audio_start": 1}]
    turns[1]["gain_db"] = -6
    files = {"audio": ("bob.wav", tone(2)), "audio_anna": ("anna.wav", tone(1))}
    answer = _post(http, files, turns=turns, idle_mouths="closed")
    assert _turns(answer) == [
        {"face": "0", "start": 1, "audio": "audio_anna"},
        {"face": "1", "start": 2, "end": 3, "audio_start": 1, "gain_db": -6},
    ]
    (request,) = service.requests
    assert (request.options.idle_mouths, request.options.loop) == ("closed", "source")
    assert {name: file.label for name, file in request.audio_files.items()} == {
        "audio": "bob.wav",
        "audio_anna": "anna.wav",
    }


def test_a_json_body(http: httpx.Client, service: MemoryService) -> None:
    body = {
        "video": base64.b64encode(VIDEO[1] * 2).decode(),
        "audio_anna": "data:audio/wav;base64," + base64.b64encode(tone(1)).decode(),
        "turns": [{"start": 1, "audio": "audio_anna"}],
    }
    answer = http.post("/v1/jobs", json=body)
    assert _turns(answer) == [{"start": 1}], "the only file is the speech"
    assert answer.json()["links"]["subtitles"] is None
    (request,) = service.requests
    assert (set(request.audio_files), set(request.plan.audio)) == ({"audio_anna"}, {"audio"})


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


def test_texts_next_to_audio(http: httpx.Client, service: MemoryService) -> None:
    turns = [
        {"start": 0, "face": "0"},
        {"start": 5, "face": "1", "text": "Hi", "original_text": "Hallo"},
        {"start": 5.2, "face": "1", "text": "a", "voice": "nova"},
    ]
    found = _turns(_post(http, {"audio": ("a.wav", tone(1))}, turns=turns, voice="echo"))
    assert found == [turns[0], {**turns[1], "voice": "echo"}, turns[2]]
    assert set(service.requests[0].audio_files) == {"audio"}
    assert not service.requests[0].plan.is_complete


def test_a_diarization(http: httpx.Client) -> None:
    files = {"audio": ("talk.wav", tone(5)), "diarization": ("talk.rttm", RTTM)}
    speakers = json.dumps({"A": {"face": "0"}})
    assert _turns(_post(http, files, speakers=speakers)) == [
        {"face": "0", "start": 0.5, "end": 2, "audio_start": 0.5, "speaker": "A"},
        {"start": 3, "end": 4, "audio_start": 3, "speaker": "B"},
    ]


def test_a_repeated_request_returns_its_job(http: httpx.Client, service: MemoryService) -> None:
    def send(anna: bytes) -> httpx.Response:
        return http.post(
            "/v1/jobs",
            files={"video": VIDEO, "audio_anna": ("a.wav", anna)},
            data={"turns": json.dumps([{"start": 1, "audio": "audio_anna"}])},
            headers={"Idempotency-Key": "one"},
        )

    first = send(tone(1))
    assert send(tone(1)).json()["id"] == first.json()["id"]
    assert send(tone(2)).json()["code"] == "idempotency_key_reused"
    assert len(service.requests) == 1


@pytest.mark.parametrize(
    ("files", "fields", "message"),
    [
        ([], {}, "audio or text is required, or turns, subtitles or translate_to"),
        (["audio"], {"turns": "["}, "turns: expected a JSON list of turns"),
        (["audio"], {"turns": "[]"}, "turns"),
        (["audio"], {"turns": [{"start": -1}]}, "turns"),
        (["audio"], {"turns": '[{"start": NaN}]'}, "turns"),
        (["audio"], {"turns": [{"start": 0}] * 5001}, "at most 5000, found 5001"),
        (["audio"], {"turns": [{"start": 0, "nose": 1}]}, "nose"),
        (["audio"], {"turns": [{"start": 0}], "text": "x"}, "text or turns, not both"),
        (["audio"], {"turns": [{"start": 0}], "loop": "hold"}, "leave loop out"),
        (
            ["audio"],
            {"turns": [{"start": 0}], "speakers": SPEAKERS},
            "speakers needs diarization, subtitles or translate_to",
        ),
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
        (
            ["audio"],
            {"turns": [{"start": 0}], "review": "true"},
            "review needs turns with texts, subtitles or translate_to",
        ),
        (["subtitles"], {"subtitles_output": "track", "format": "webm"}, "subtitles_output=track is not possible"),
        ([], {"idle_mouths": "closed", "text": "x"}, "idle_mouths needs turns"),
        (["audio"], {"max_audio_stretch": "1.2"}, "max_audio_stretch needs loop=retime"),
        (["audio"], {"max_audio_stretch": "1.5", "loop": "retime"}, "max_audio_stretch"),
    ],
)
def test_invalid_requests(
    http: httpx.Client, service: MemoryService, files: list[str], fields: dict[str, Any], message: str
) -> None:
    content = {"subtitles": ("a.srt", SRT), "diarization": ("a.rttm", RTTM)}
    parts = {name: content.get(name, ("a.wav", tone(1))) for name in files}
    assert message in _refused(_post(http, parts, **fields), service)


@pytest.mark.parametrize(("kind", "media_type"), [("srt", "application/x-subrip"), ("vtt", "text/vtt; charset=utf-8")])
def test_subtitles_are_downloaded(http: httpx.Client, kind: str, media_type: str) -> None:
    job = _post(http, {"subtitles": ("de.srt", SRT)}).json()["id"]
    answer = http.get(f"/v1/jobs/{job}/subtitles.{kind}")
    assert (answer.status_code, answer.headers["content-type"]) == (200, media_type)
    found = [(event.start, event.end, event.plaintext) for event in pysubs2.SSAFile.from_string(answer.text)]
    assert found == [(1000, 2000, "Hello"), (3000, 3400, "A longer answer")]


def test_a_job_without_texts_has_no_subtitles(http: httpx.Client) -> None:
    job = _post(http, {"audio": ("a.wav", tone(1))}).json()["id"]
    assert http.get(f"/v1/jobs/{job}/subtitles.srt").status_code == 404
    assert http.get(f"/v1/jobs/{job}/subtitles.exe").status_code == 422


def test_music_plays_under_any_job(http: httpx.Client, service: MemoryService) -> None:
    files = {"video": VIDEO, "audio": ("bob.wav", tone(2)), "music": ("song.wav", tone(1))}
    answer = http.post("/v1/jobs", files=files)
    assert answer.json()["options"]["music_gain_db"] == -12
    assert _turns(_post(http, {key: files[key] for key in ("audio", "music")}, turns=[{"start": 1}], music_gain_db=-20))
    plain, with_turns = service.requests
    assert plain.options.turns is None
    for request, gain_db in ((plain, -12), (with_turns, -20)):
        assert request.options.music_gain_db == gain_db
        assert {name: file.label for name, file in request.audio_files.items()} == {
            "audio": "bob.wav",
            "music": "song.wav",
        }
