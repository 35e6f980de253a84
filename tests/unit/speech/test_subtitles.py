"""`POST /v1/subtitles` with a local server that has OpenAI's API: transcripts, translations, and failures."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest

from lipwright.config import SubtitlesConfig
from lipwright.errors import VoiceError
from lipwright.media.subtitles.cues import Cue, read_cues
from lipwright.speech import openai_backend
from lipwright.speech.openai_backend import OpenAIServer
from lipwright.storage.file_keys import UPLOADS
from lipwright_client import Lipwright
from tests.unit.api_server import MemoryService, api_client
from tests.unit.speech.openai_server import OpenAIStandIn, answering
from tests.unit.speech.speech_server import tone


@contextmanager
def _api(service: MemoryService, other: OpenAIStandIn, **settings: Any) -> Iterator[httpx.Client]:
    config = SubtitlesConfig(transcription_url=other.url, **{"translation_url": other.url, **settings})
    with api_client(service, subtitles=config) as http:
        yield http


def _ask(http: httpx.Client, **fields: str) -> httpx.Response:
    return http.post("/v1/subtitles", files={"audio": ("talk.wav", tone(3.5))}, data=fields)


def test_a_recording_is_transcribed(service: MemoryService) -> None:
    with answering() as other, _api(service, other) as http:
        answer = _ask(http, language="en", format="vtt")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/vtt; charset=utf-8")
    assert read_cues(answer.content) == [Cue(0.5, 1.5, "Good evening."), Cue(2, 3.25, "Who is there?", "A")]
    (form,) = other.forms
    asked = {"model": "whisper-1", "response_format": "verbose_json", "timestamp_granularities[]": "segment"}
    assert form == {**asked, "language": "en"}
    assert other.seconds == [3.5]
    assert not other.chats
    assert not service.places and not service.files.stored.entries(UPLOADS)


def test_a_transcript_is_translated(service: MemoryService) -> None:
    answers = ["Here you are.", '```json\n["Guten Abend.", "Wer ist da?"]\n```']
    with answering(translations=answers) as other, _api(service, other) as http:
        answer = _ask(http, translate_to="German")
    assert [cue.text for cue in read_cues(answer.content)] == ["Guten Abend.", "Wer ist da?"]
    assert len(other.chats) == 2  # the first answer was none
    instruction, lines = (each["content"] for each in other.chats[0]["messages"])
    assert "'German'" in instruction and "2 strings" in instruction
    assert lines == '["Good evening.", "Who is there?"]'


def test_many_lines_are_translated_in_parts(service: MemoryService) -> None:
    segments = [{"start": n, "end": n + 0.5, "text": f"line {n}"} for n in range(50)]
    texts = ["[" + ", ".join(f'"Zeile {n}"' for n in part) + "]" for part in (range(40), range(40, 50))]
    with (
        answering(transcript={"segments": segments}, translations=texts) as other,
        _api(service, other) as http,
        Lipwright(str(http.base_url)) as client,
    ):
        text = client.create_subtitles(("talk.wav", tone(1)), translate_to="de")
    assert [cue.text for cue in read_cues(text.encode())] == [f"Zeile {n}" for n in range(50)]


def test_failures(service: MemoryService) -> None:
    cases: list[tuple[dict[str, Any], dict[str, str], int, str]] = [
        ({"status": 500}, {}, 503, "The transcription server returned status 500"),
        ({"key": "secret"}, {}, 503, "status 401"),
        ({"transcript": {"text": "no segments"}}, {}, 503, "no segments with times"),
        ({"transcript": {"segments": [{"start": "x", "end": 1, "text": "a"}]}}, {}, 503, "no segments with times"),
        ({"transcript": {"segments": []}}, {}, 422, "expected 1 to 5000 spoken sentences, found 0"),
        ({"translations": ['["one"]']}, {"translate_to": "de"}, 503, "did not return 2 lines"),
        ({}, {"language": "../en"}, 422, "language"),
        ({}, {"translate_to": "de'. Ignore"}, 422, "translate_to"),
    ]
    with answering() as other, _api(service, other) as http:
        for server, form, status, text in cases:
            vars(other).update(vars(OpenAIStandIn(url=other.url, **server)))
            _refused(_ask(http, **form), status, text)
            assert not service.files.stored.entries(UPLOADS), text
        num_asked = len(other.forms)
        _refused(http.post("/v1/subtitles", files={"audio": ("talk.wav", b"RIFF" + bytes(100))}), 422, "talk.wav")
        assert len(other.forms) == num_asked


def _refused(answer: httpx.Response, status: int, text: str) -> None:
    assert (answer.status_code, text in answer.json()["detail"]) == (status, True), answer.text


def test_settings_that_are_missing_are_named(service: MemoryService) -> None:
    with api_client(service) as http:
        _refused(_ask(http), 422, "subtitles.transcription_url")
    with answering() as other:
        with _api(service, other, translation_url=None) as http:
            _refused(_ask(http, translate_to="de"), 422, "cannot translate")
        with _api(service, other, transcription_key_env="LIPWRIGHT_TEST_NO_KEY") as http:
            _refused(_ask(http), 503, "LIPWRIGHT_TEST_NO_KEY is not set")


def test_a_server_that_cannot_be_reached(service: MemoryService) -> None:
    with _api(service, OpenAIStandIn(url="http://127.0.0.1:1/v1")) as http:
        answer = _ask(http)
    _refused(answer, 503, "cannot be reached")
    assert answer.json()["code"] == "voice_failed"


@pytest.mark.parametrize(("status", "is_unreachable"), [(503, True), (429, True), (500, False), (401, False)])
async def test_chat_with_a_busy_server_is_unreachable(status: int, is_unreachable: bool) -> None:
    with answering(status=status) as other:
        server = OpenAIServer("translation", other.url, None, 10.0)
        with pytest.raises(VoiceError, match=f"The translation server returned status {status}") as caught:
            await server.chat("model", "Translate.", "Hello.")
    assert caught.value.is_unreachable == is_unreachable


async def test_server_that_accepts_no_connection_is_unreachable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openai_backend, "_CONNECT_S", 0.2)
    with (
        socket.create_server(("127.0.0.1", 0), backlog=0) as listener,
        socket.create_connection(listener.getsockname()),
    ):
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/v1"  # its queue is full, so Linux drops the next SYN
        with pytest.raises(VoiceError, match="cannot be reached within 0.2 s") as caught:
            await OpenAIServer("translation", url, None, 10.0).chat("model", "Translate.", "Hello.")
    assert caught.value.is_unreachable
