"""A service on loopback that keeps to the contract of OpenAI's `POST /v1/audio/speech`, and does what the test says.

It clones voices as vLLM-Omni does (`ref_audio` and `ref_text` beside OpenAI's fields), and as Chatterbox TTS API does
(`voice_file` in a form to `/audio/speech/upload`).
"""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from benchmarks.media_files import wav_bytes
from tests.threads import QuietHandler, http_server

REQUIRED = {"model", "input", "voice"}
DATA_URL = "data:audio/wav;base64,"
FORMATS = ("mp3", "opus", "aac", "flac", "wav", "pcm")


@dataclass
class SpeechServer:
    """What it was asked, and what it answers."""

    key: str = ""
    status: int = 200  # of its answers to proper requests
    num_failures: int | None = None  # answers with that status; None for all of them
    content_type: str = "audio/wav"
    sound: bytes = b""  # of every text
    hold: threading.Event = field(default_factory=threading.Event)  # answers wait until it is set
    url: str = ""
    voices: list[Any] | None = None  # None where the server has no route that lists them
    needs_transcript: bool = False
    asked: list[dict[str, Any]] = field(default_factory=list)
    recordings: list[bytes] = field(default_factory=list)


def tone(seconds: float = 0.5) -> bytes:
    return wav_bytes(np.full(int(24000 * seconds), 0x1000, np.int16), 24000)


@contextmanager
def speaking(**settings: Any) -> Iterator[SpeechServer]:
    state = SpeechServer(**{"sound": tone(), **settings})
    if "hold" not in settings:
        state.hold.set()

    class Handler(QuietHandler):
        def do_POST(self) -> None:
            body, recording = self._received()
            state.asked.append(body)
            required = REQUIRED - {"voice"} if recording else REQUIRED
            if recording:
                state.recordings.append(recording)
            if self.path not in ("/v1/audio/speech", "/v1/audio/speech/upload"):
                self._answer(404)
            elif state.key and self.headers["Authorization"] != f"Bearer {state.key}":
                self._answer(401)
            elif recording and state.needs_transcript and not body.get("ref_text"):
                self._answer(400)
            elif not body.keys() >= required or body.get("response_format", "mp3") not in FORMATS:
                self._answer(400, b'{"error": {"message": "secret of the inside"}}')
            else:
                state.hold.wait(20)
                is_over = state.num_failures is not None and len(state.asked) > state.num_failures
                self._answer(200 if is_over else state.status, state.sound, state.content_type)

        def _received(self) -> tuple[dict[str, Any], bytes]:
            if self.path.endswith("/upload"):
                fields, files = self.form()
                return fields, files.get("voice_file", b"")
            body = json.loads(self.body())
            url = body.pop("ref_audio", DATA_URL)
            assert url.startswith(DATA_URL)
            return body, base64.b64decode(url.removeprefix(DATA_URL), validate=True)

        def do_GET(self) -> None:
            is_known = self.path == "/v1/audio/voices" and state.voices is not None
            self._answer(200 if is_known else 404, json.dumps({"voices": state.voices}).encode())

        def _answer(self, status: int, content: bytes = b"{}", content_type: str = "application/json") -> None:
            with suppress(OSError):
                self.answer(content, status, Content_Type=content_type)

    with http_server(Handler) as port:
        state.url = f"http://127.0.0.1:{port}/v1"
        try:
            yield state
        finally:
            state.hold.set()
