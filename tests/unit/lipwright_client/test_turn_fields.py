"""Jobs with turns, sent by the client: further files, JSON fields, and subtitles that are downloaded."""

from __future__ import annotations

from pathlib import Path

from lipwright_client import Lipwright
from tests.unit.api_server import MemoryService, serving
from tests.unit.speech.speech_server import tone


def test_create_turns_sends_files_and_texts(tmp_path: Path) -> None:
    service = MemoryService(tmp_path)
    with serving(service) as url, Lipwright(url) as client:
        job = client.jobs.create(
            video=("face.png", b"\x89PNG\r\n\x1a\n" + bytes(64)),
            more_audio={"audio_anna": ("anna.wav", tone(1))},
            turns=[
                {"start": 0, "end": 1, "face": "0", "audio": "audio_anna"},
                {"start": 1, "end": 2, "face": "1", "text": "Hello"},
            ],
            idle_mouths="closed",
        )
        assert client.jobs.subtitles(job.id) == "1\n00:00:01,000 --> 00:00:02,000\nHello\n"
    (request,) = service.requests
    assert request.audio_files["audio_anna"].label == "anna.wav"
    assert [turn.audio for turn in request.options.turns or ()] == ["audio_anna", "audio"]
    assert request.options.idle_mouths == "closed"
