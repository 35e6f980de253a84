"""`lipwright dub` against the API on a real socket: cast, voices, ambience, and the texts that were cut."""

from __future__ import annotations

from pathlib import Path

import pytest

from errors import OptionError
from tests.unit.api_server import VIDEO_BYTES, MemoryService
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
    service.outcome = "video"
    return service


def _dub(folder: Path, *options: str) -> tuple[int, str]:
    (folder / "film.mp4").write_bytes(b"film")
    (folder / "de.vtt").write_text(VTT, encoding="utf-8")
    files = [str(folder / "film.mp4"), "--subtitles", str(folder / "de.vtt"), "--out", str(folder / "out.mp4")]
    done = run("dub", *files, *options)
    return done.exit_code, done.output


def test_dub_gives_each_speaker_a_face_and_a_voice(tmp_path: Path, service: MemoryService, url: str) -> None:
    report = example_report()
    report["output"]["cut_texts"] = [{"start_seconds": 3.0, "cut_seconds": 0.44, "text": "Guten Tag"}]
    service.report = report
    options = ("--face", "erzähler=offscreen", "--voice", "Anna=nova", "--voice", "echo", "--show", "track")
    code, output = _dub(tmp_path, *options, "--server", url)
    assert code == 0, output
    assert (tmp_path / "out.mp4").read_bytes() == VIDEO_BYTES
    assert "Cut by 0.4 s at 3.0 s: Guten Tag" in output
    assert "Voices: Anna=nova, Bob=echo, Erzähler=echo" in output
    (request,) = service.requests
    assert [(turn.face, turn.voice, turn.text) for turn in request.options.turns or ()] == [
        (None, "nova", "Hallo"),
        (None, "echo", "Guten Tag"),
        ("offscreen", "echo", "Am Abend"),
    ]
    assert (request.options.subtitles, request.options.background_gain_db) == ("track", -12)
    sent = request.spec
    assert {"background", "expressiveness", "motion"} <= sent.model_fields_set, "the film may be a saved avatar"
    assert (sent.background, sent.expressiveness, sent.motion) == ("source", 1, 1)


def test_dub_no_ambience_omits_background_and_closes_mouths(tmp_path: Path, service: MemoryService, url: str) -> None:
    code, output = _dub(tmp_path, "--no-ambience", "--closed-mouths", "--server", url)
    assert code == 0, output
    options = service.requests[0].options
    assert (options.background_gain_db, options.idle_mouths) == (None, "closed")


def test_dub_of_video_without_sound_keeps_no_ambience(tmp_path: Path, service: MemoryService, url: str) -> None:
    service.refusals.append(OptionError("background_gain_db: the video has no sound."))
    code, output = _dub(tmp_path, "--server", url)
    assert code == 0, output
    assert "The video has no sound to keep under the speech." in output
    assert service.requests[0].options.background_gain_db is None


def test_dub_options_of_job_are_sent(tmp_path: Path, service: MemoryService, url: str) -> None:
    (tmp_path / "music.mp3").write_bytes(b"music")
    options = ("--background", "blur", "--motion", "0.5", "--quality", "best", "--music", str(tmp_path / "music.mp3"))
    code, output = _dub(tmp_path, *options, "--server", url)
    assert code == 0, output
    sent = service.requests[0].spec
    assert (sent.background, sent.expressiveness, sent.motion, sent.quality) == ("blur", 1, 0.5, "best")
    assert sent.music is not None and sent.music.label == "music.mp3"


def test_dub_language_asks_for_a_translation(tmp_path: Path, service: MemoryService, url: str) -> None:
    film, out = tmp_path / "film.mp4", tmp_path / "out.mp4"
    film.write_bytes(b"film")
    done = run("dub", str(film), "--language", "German", "--out", str(out), "--server", url)
    assert done.exit_code == 0, done.output
    spec = service.requests[0].spec
    assert (spec.translate_to, spec.language, spec.subtitles) == ("deu", "deu", None)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--language", "de"], "pass either --subtitles or --language"),
        (["--face", "Anna"], "--face: expected NAME=FACE, found 'Anna'"),
        (["--voice", "=nova"], "--voice: expected VOICE or NAME=VOICE"),
        (["--subtitles", "missing.srt"], "missing.srt does not exist"),
        (["--face", "Eve=person:1"], "--face: the subtitle file has no speaker 'Eve'. Its"),
    ],
)
def test_dub_unusable_option_is_explained(
    tmp_path: Path, service: MemoryService, url: str, options: list[str], message: str
) -> None:
    code, output = _dub(tmp_path, *options, "--server", url)
    assert code != 0
    assert message in output
    assert not service.requests
