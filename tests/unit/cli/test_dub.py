"""`lipwright dub` against the API on a real socket: cast, voices, ambience, and the texts that were cut."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from config import SubtitlesConfig, TtsConfig
from jobs.messages import PeopleScan
from models.people.report import PeopleReport, SpeakerTurn
from tests.unit.api.subtitles.openai_server import answering
from tests.unit.api.tts.speech_server import SpeechServer, speaking, tone
from tests.unit.api_server import VIDEO_BYTES, MemoryService, serving
from tests.unit.cli.commands import run
from tests.unit.quality_report import example_report

VTT = """WEBVTT

00:01.000 --> 00:02.000
<v Anna>Hallo

00:03.000 --> 00:04.000
<v Bob>Guten Tag

00:05.000 --> 00:06.000
<v Erzähler>Am Abend
"""


@pytest.fixture
def service(service: MemoryService) -> MemoryService:

    turns = (SpeakerTurn(start=0, end=2, person=1, confidence=1), SpeakerTurn(start=3, end=4, person=0, confidence=1))
    service.scans = [PeopleScan(0.5, None), PeopleScan(1, PeopleReport(people=(), turns=turns))]
    service.outcome = "video"
    return service


@pytest.fixture
def voice() -> Iterator[SpeechServer]:
    with speaking() as voice:
        yield voice


@pytest.fixture
def server(service: MemoryService, voice: SpeechServer) -> Iterator[str]:
    with serving(service, tts=TtsConfig(url=voice.url)) as url:
        yield url


def _dub(folder: Path, *options: str) -> tuple[int, str]:
    (folder / "film.mp4").write_bytes(b"film")
    (folder / "de.vtt").write_text(VTT, encoding="utf-8")
    files = [str(folder / "film.mp4"), "--subtitles", str(folder / "de.vtt"), "--out", str(folder / "out.mp4")]
    done = run("dub", *files, *options)
    return done.exit_code, done.output


def test_dub_gives_each_speaker_a_face_and_a_voice(
    tmp_path: Path, service: MemoryService, server: str, voice: SpeechServer
) -> None:
    report = example_report()
    report["output"]["cut_texts"] = [{"start_seconds": 3.0, "cut_seconds": 0.44, "text": "Guten Tag"}]
    service.report = report
    options = ("--face", "erzähler=offscreen", "--voice", "Anna=nova", "--voice", "echo", "--show", "track")
    code, output = _dub(tmp_path, *options, "--server", server)
    assert code == 0, output
    assert (tmp_path / "out.mp4").read_bytes() == VIDEO_BYTES
    assert "Cut by 0.4 s at 3.0 s: Guten Tag" in output
    assert "speaking 3 texts" in output, "until the job exists"
    assert "Voices: Anna=nova, Bob=echo, Erzähler=echo" in output
    (request,) = service.requests
    assert [(turn.face, turn.voice, turn.text) for turn in request.options.turns or ()] == [
        ("person:1", "nova", "Hallo"),
        ("person:0", "echo", "Guten Tag"),
        ("offscreen", "echo", "Am Abend"),
    ]
    assert [asked["voice"] for asked in voice.asked] == ["nova", "echo", "echo"]
    assert (request.options.subtitles, request.options.background_gain_db) == ("track", -12)
    sent = request.options
    assert {"background", "expressiveness", "motion"} <= sent.model_fields_set, "the film may be a saved avatar"
    assert (sent.background, sent.expressiveness, sent.motion) == ("source", 1, 1)


def test_dub_no_ambience_omits_background_and_closes_mouths(
    tmp_path: Path, service: MemoryService, server: str
) -> None:
    code, output = _dub(tmp_path, "--no-ambience", "--closed-mouths", "--server", server)
    assert code == 0, output
    options = service.requests[0].options
    assert (options.background_gain_db, options.idle_mouths) == (None, "closed")
    assert (options.turns or ())[2].face == "speaking"  # nobody speaks in the film then


def test_dub_language_transcribes_and_translates(tmp_path: Path, service: MemoryService, voice: SpeechServer) -> None:
    film, out = tmp_path / "film.wav", tmp_path / "out.mp4"
    film.write_bytes(tone(4))
    with answering() as other:
        settings = SubtitlesConfig(transcription_url=other.url, translation_url=other.url)
        with serving(service, tts=TtsConfig(url=voice.url), subtitles=settings) as url:
            done = run("dub", str(film), "--language", "German", "--out", str(out), "--server", url)
    assert done.exit_code == 0, done.output
    assert service.requests[0].options.language == "deu"
    turns = service.requests[0].options.turns or ()
    assert [(turn.text, turn.speaker, turn.face) for turn in turns] == [
        ("Guten Abend.", None, "person:1"),
        ("Wer ist da?", "A", "person:0"),
    ]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--language", "de"], "pass either --subtitles or --language"),
        (["--face", "Anna"], "--face: expected NAME=FACE, found 'Anna'"),
        (["--voice", "=nova"], "--voice: expected VOICE or NAME=VOICE"),
        (["--subtitles", "missing.srt"], "missing.srt does not exist"),
        (["--face", "Eve=person:1"], "no speaker 'Eve'. Its speakers: Anna, Bob, Erzähler"),
    ],
)
def test_dub_unusable_option_is_explained(
    tmp_path: Path, service: MemoryService, server: str, options: list[str], message: str
) -> None:
    code, output = _dub(tmp_path, *options, "--server", server)
    assert code != 0
    assert message in output
    assert not service.requests
