"""A service on loopback that keeps to the contract of OpenAI's `POST /v1/audio/speech`, and does what the test says.

It clones voices as vLLM-Omni does (`ref_audio` and `ref_text` beside OpenAI's fields), and as Chatterbox TTS API does
(`voice_file` in a form to `/audio/speech/upload`).
"""

from __future__ import annotations

import base64
import io
import json
import threading
import wave
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from python_multipart import parse_form

REQUIRED = {"model", "input", "voice"}
DATA_URL = "data:audio/wav;base64,"
FORMATS = ("mp3", "opus", "aac", "flac", "wav", "pcm")


@dataclass
class SpeechServer:
    """What it was asked, and what it answers.

    Attributes:
        key: The key that it wants; empty for none.
        status: Of its answers to proper requests.
        num_failures: How many answers have that status; None for all of them.
        content_type: Of its sounds.
        sound: What every text sounds like.
        hold: Answers wait until it is set.
        needs_transcript: Whether it clones only with a transcript.
        voices: What `GET /v1/audio/voices` lists; None where the server has no such route.
    """

    key: str = ""
    status: int = 200
    num_failures: int | None = None
    content_type: str = "audio/wav"
    sound: bytes = b""
    hold: threading.Event = field(default_factory=threading.Event)
    url: str = ""
    voices: list[Any] | None = None
    needs_transcript: bool = False
    asked: list[dict[str, Any]] = field(default_factory=list)
    recordings: list[bytes] = field(default_factory=list)


def tone(seconds: float = 0.5) -> bytes:
    """A WAV file."""
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setparams((1, 2, 24000, 0, "NONE", ""))
        out.writeframes(b"\x00\x10" * int(24000 * seconds))
    return file.getvalue()


@contextmanager
def speaking(**settings: Any) -> Iterator[SpeechServer]:
    """Serve it while the block lasts."""
    state = SpeechServer(**{"sound": tone(), **settings})
    if "hold" not in settings:
        state.hold.set()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body, recording = self._received()
            state.asked.append(body)
            if self.path not in ("/v1/audio/speech", "/v1/audio/speech/upload"):
                return self._answer(404, b"{}", "application/json")
            if state.key and self.headers["Authorization"] != f"Bearer {state.key}":
                return self._answer(401, b"{}", "application/json")
            required = REQUIRED - {"voice"} if recording else REQUIRED
            if recording:
                state.recordings.append(recording)
                if state.needs_transcript and not body.get("ref_text"):
                    return self._answer(400, b"{}", "application/json")
            if not body.keys() >= required or body.get("response_format", "mp3") not in FORMATS:
                return self._answer(400, b'{"error": {"message": "secret of the inside"}}', "application/json")
            state.hold.wait(20)
            is_over = state.num_failures is not None and len(state.asked) > state.num_failures
            self._answer(200 if is_over else state.status, state.sound, state.content_type)

        def _received(self) -> tuple[dict[str, Any], bytes]:
            """Return the fields of the request but its recording, and that."""
            content = self.rfile.read(int(self.headers["Content-Length"]))
            if not self.path.endswith("/upload"):
                body = json.loads(content)
                url = body.pop("ref_audio", DATA_URL)
                assert url.startswith(DATA_URL)
                return body, base64.b64decode(url.removeprefix(DATA_URL), validate=True)
            fields: dict[str, Any] = {}
            files: dict[str, bytes] = {}
            headers = {name: value.encode() for name, value in self.headers.items()}

            def add_field(each: Any) -> None:
                fields[each.field_name.decode()] = each.value.decode()

            def add_file(each: Any) -> None:
                each.file_object.seek(0)
                files[each.field_name.decode()] = each.file_object.read()

            parse_form(headers, io.BytesIO(content), add_field, add_file)
            return fields, files.get("voice_file", b"")

        def do_GET(self) -> None:
            if self.path != "/v1/audio/voices" or state.voices is None:
                return self._answer(404, b"{}", "application/json")
            self._answer(200, json.dumps({"voices": state.voices}).encode(), "application/json")

        def _answer(self, status: int, content: bytes, content_type: str) -> None:
            with suppress(OSError):
                self.send_response(status)
                self.send_header("Content-Type", content_type)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        state.url = f"http://127.0.0.1:{server.server_address[1]}/v1"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield state
        finally:
            state.hold.set()
            server.shutdown()
