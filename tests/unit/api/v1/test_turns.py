"""Jobs in which several people speak: turns, diarizations and subtitles become turns with audio files."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pysubs2
import pytest

from config import MediaLimits, TtsConfig
from errors import OptionError
from jobs.messages import PeopleScan
from jobs.requests import TurnFacts, TurnsRequest
from media.audio import AudioTrack
from models.people.report import PeopleReport, SpeakerTurn
from storage.file_keys import UPLOADS, job_file_key
from tests.unit.api_server import MemoryService, serving
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
    with speaking(sound=tone(0.5)) as server:
        yield server


@pytest.fixture
def service(tmp_path: Path) -> MemoryService:
    return MemoryService(tmp_path)


@pytest.fixture
def http(service: MemoryService, voice: SpeechServer) -> Iterator[httpx.Client]:
    voice.asked.clear()
    with (
        serving(service, tts=TtsConfig(url=voice.url, max_total_chars=2000)) as url,
        httpx.Client(base_url=url, timeout=60, trust_env=False) as client,
    ):
        yield client


def _post(http: httpx.Client, files: dict[str, Any] | None = None, **fields: Any) -> httpx.Response:
    texts = {name: each if isinstance(each, str) else json.dumps(each) for name, each in fields.items()}
    return http.post("/v1/jobs", files={"video": VIDEO, **(files or {})}, data=texts)


def _turns(answer: httpx.Response) -> list[dict[str, Any]]:
    assert answer.status_code == 202, answer.text
    found: list[dict[str, Any]] = answer.json()["options"]["turns"]
    defaults = {"gain_db": 0}
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
        {"face": "0", "start": 1, "audio": "audio_anna", "audio_start": 0},
        {"face": "1", "start": 2, "end": 3, "audio": "audio", "audio_start": 1, "gain_db": -6},
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
    assert _turns(answer) == [{"start": 1, "audio": "audio", "audio_start": 0}]
    assert answer.json()["links"]["subtitles"] is None
    assert not service.requests[0].more_audio


def test_subtitles_are_spoken_in_their_slots(http: httpx.Client, service: MemoryService, voice: SpeechServer) -> None:
    answer = _post(http, {"subtitles": ("de.srt", SRT)}, speakers=SPEAKERS, voice="echo", subtitles_output="track")
    assert _turns(answer) == [
        {"face": "0", "start": 1, "end": 2, "audio": "audio", "audio_start": 0}
        | {"text": "Hello", "voice": "nova", "speaker": "ANNA"},
        {"face": "1", "start": 3, "end": 3.4, "audio": "audio", "audio_start": 1, "speed": 1.25}
        | {"text": "A longer answer", "voice": "echo", "speaker": "BOB"},
    ]
    assert "A longer answer" in http.get(answer.json()["links"]["subtitles"]).text
    assert [(asked["input"], asked["voice"]) for asked in voice.asked] == [
        ("Hello", "nova"),
        ("A longer answer", "echo"),
    ]
    assert service.requests[0].options.subtitles == "track"
    with (
        service.files.stored.fetched(job_file_key(answer.json()["id"])) as path,
        closing(AudioTrack(path, MediaLimits())) as track,
    ):
        samples = np.concatenate(list(track.blocks(48000, "mono", "fltp")), axis=1)[0]
    assert len(samples) == round(1.4 * 48000)
    assert np.abs(samples[480:20000]).min() > 0.1 > np.abs(samples[26000:47000]).max()  # half a second of each second
    assert not service.files.stored.entries(UPLOADS).keys() - {file.key for file in [service.requests[0].video] if file}


def test_texts_next_to_audio(http: httpx.Client, service: MemoryService) -> None:
    turns = [
        {"start": 0, "face": "0"},
        {"start": 5, "face": "1", "text": "Hi"},
        {"start": 5.2, "face": "1", "text": "a"},
    ]
    found = _turns(_post(http, {"audio": ("a.wav", tone(1))}, turns=turns))
    assert found[0] == {"face": "0", "start": 0, "audio": "audio", "audio_start": 0}
    assert found[1]["audio"] == "audio_synthesized"
    assert (found[1]["end"], found[1]["speed"]) == (5.2, 1.35)
    assert found[1]["cut_seconds"] == pytest.approx(0.5 / 1.35 - 0.2, abs=0.02)
    assert found[2]["audio_start"] == pytest.approx(0.2)
    assert set(service.requests[0].more_audio) == {"audio_synthesized"}


def test_a_text_that_the_end_of_the_video_cuts(http: httpx.Client, service: MemoryService) -> None:
    service.video_seconds = 5.2
    turns = [{"start": 1, "face": "0", "text": "Hi"}, {"start": 5, "end": 9, "face": "0", "text": "Late"}]
    late = _turns(_post(http, turns=turns))[1]
    assert (late["end"], late["speed"]) == (5.2, 1.35)
    assert late["cut_seconds"] == pytest.approx(0.5 / 1.35 - 0.2, abs=0.02)
    (checked,) = service.checked
    assert (checked.video is not None, checked.audio_files, checked.face) == (True, {}, "largest")


def test_turns_that_are_invalid_cost_no_speech(
    http: httpx.Client, service: MemoryService, voice: SpeechServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(request: TurnsRequest) -> TurnFacts:
        raise OptionError("turns[1].face: expected person:0, found 'person:9'.")

    monkeypatch.setattr(service, "check_turns", refuse)
    turns = [{"start": 1, "text": "Hi"}, {"start": 5, "face": "person:9", "text": "Late"}]
    assert "turns[1].face" in _refused(_post(http, turns=turns), service)
    assert not voice.asked


def test_a_diarization(http: httpx.Client) -> None:
    files = {"audio": ("talk.wav", tone(5)), "diarization": ("talk.rttm", RTTM)}
    speakers = json.dumps({"A": {"face": "0"}})
    assert _turns(_post(http, files, speakers=speakers)) == [
        {"face": "0", "start": 0.5, "end": 2, "audio": "audio", "audio_start": 0.5, "speaker": "A"},
        {"face": "speaking", "start": 3, "end": 4, "audio": "audio", "audio_start": 3, "speaker": "B"},
    ]


def test_the_people_of_an_avatar_are_cast(http: httpx.Client, service: MemoryService) -> None:
    avatar = http.post("/v1/avatars", files={"video": VIDEO}).json()["id"]
    turns = (
        SpeakerTurn(start=1, end=2, person=1, confidence=1),
        SpeakerTurn(start=3, end=4, person=None, confidence=1),
    )
    service.scans = [PeopleScan(0.5, None), PeopleScan(1, PeopleReport(people=(), turns=turns))]

    def send() -> httpx.Response:
        return http.post("/v1/jobs", files={"subtitles": ("de.srt", SRT)}, data={"avatar_id": avatar})

    early = send()
    assert (early.status_code, early.json()["code"]) == (409, "request_in_progress")
    assert early.json()["retryable"]
    assert [turn["face"] for turn in _turns(send())] == ["person:1", "offscreen"]


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
        ([], {}, "audio or text is required, or turns or subtitles"),
        (["audio"], {"turns": "["}, "turns: expected a JSON list of turns"),
        (["audio"], {"turns": "[]"}, "turns"),
        (["audio"], {"turns": [{"start": -1}]}, "turns"),
        (["audio"], {"turns": '[{"start": NaN}]'}, "turns"),
        (["audio"], {"turns": [{"start": 0}] * 5001}, "at most 5000, found 5001"),
        (["audio"], {"turns": [{"start": 0, "nose": 1}]}, "nose"),
        (["audio"], {"turns": [{"start": 0}], "text": "x"}, "text or turns, not both"),
        (["audio"], {"turns": [{"start": 0}], "loop": "hold"}, "leave loop out"),
        (["audio"], {"turns": [{"start": 0}], "speakers": SPEAKERS}, "speakers needs diarization or subtitles"),
        (["audio"], {"turns": [{"start": 0}], "subtitles_output": "track"}, "subtitles_output needs turns with texts"),
        (["audio"], {"turns": [{"start": 0, "speed": 2}]}, "set by the service"),
        (["audio_b"], {"turns": [{"start": 0, "text": "a", "audio": "audio_b"}]}, "text or audio, not both"),
        (["audio", "audio_b"], {}, "audio_b needs turns"),
        (["audio_b"], {"turns": [{"start": 0}, {"start": 0, "end": 1}]}, "overlap and have the same face"),
        (["audio", "subtitles"], {}, "audio or subtitles, not both"),
        (["diarization"], {}, "diarization needs audio"),
        (["subtitles"], {"speakers": '{"Eve": {}}'}, "no speaker 'Eve'. Its speakers: ANNA, BOB"),
        (["subtitles"], {"speakers": '{"Anna": {"nose": 1}}'}, "nose"),
        (["subtitles"], {"idle_mouths": "wide"}, "idle_mouths"),
        (
            [],
            {"turns": [{"start": n, "text": "x" * 900} for n in range(3)]},
            "at most 2000 characters in all, found 2700",
        ),
        ([], {"turns": [{"start": 0, "audio": "audio"}]}, "send the audio files"),
        ([], {"idle_mouths": "closed", "text": "x"}, "idle_mouths needs turns"),
        (["audio"], {"max_audio_stretch": "1.2"}, "max_audio_stretch needs loop=retime"),
        (["audio"], {"max_audio_stretch": "1.5", "loop": "retime"}, "max_audio_stretch"),
    ],
)
def test_invalid_requests(
    http: httpx.Client,
    service: MemoryService,
    voice: SpeechServer,
    files: list[str],
    fields: dict[str, Any],
    message: str,
) -> None:
    content = {"subtitles": ("a.srt", SRT), "diarization": ("a.rttm", RTTM)}
    parts = {name: content.get(name, ("a.wav", tone(1))) for name in files}
    assert message in _refused(_post(http, parts, **fields), service)
    assert not voice.asked


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("subtitles", b"1\n00:00:01,000 --> 00:00:02,000\nx\n" * 6000, "at most 5000 cues"),
        ("subtitles", "Grüße".encode("cp1252"), "expected UTF-8"),
        ("subtitles", b"x" * 250_000, "expected an SRT or WebVTT file"),
        ("diarization", b";;\n", "no segment"),
    ],
)
def test_invalid_files(http: httpx.Client, service: MemoryService, name: str, content: bytes, message: str) -> None:
    files = {name: ("a.txt", content), **({"audio": ("a.wav", tone(1))} if name == "diarization" else {})}
    assert message in _refused(_post(http, files), service)


def test_a_voice_that_fails_names_the_turn(http: httpx.Client, service: MemoryService, voice: SpeechServer) -> None:
    voice.status = 400
    try:
        assert "turns[0], at 1 s" in _refused(_post(http, {"subtitles": ("a.srt", SRT)}), service)
    finally:
        voice.status = 200


def test_unusable_audio_of_a_voice(http: httpx.Client, service: MemoryService, voice: SpeechServer) -> None:
    sound, voice.sound = voice.sound, b"RIFF" + bytes(100)
    try:
        answer = _post(http, {"subtitles": ("a.srt", SRT)})
    finally:
        voice.sound = sound
    assert (answer.status_code, answer.json()["code"]) == (503, "voice_failed")
    assert not service.files.stored.entries(UPLOADS)


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
    for request, gain_db in ((plain, -12), (with_turns, -20)):
        assert request.options.music_gain_db == gain_db
        assert {name: file.label for name, file in request.more_audio.items()} == {"music": "song.wav"}
