"""A server on loopback with OpenAI's `/audio/transcriptions` and `/chat/completions`, which does what the test says."""

from __future__ import annotations

import io
import json
import wave
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

from python_multipart import parse_form

SEGMENTS = [
    {"id": 0, "start": 0.5, "end": 1.5, "text": " Good evening."},
    {"id": 1, "start": 1.5, "end": 1.5, "text": " ..."},
    {"id": 2, "start": 2.0, "end": 3.25, "text": " Who is there?", "speaker": "A"},
]


@dataclass
class OpenAIStandIn:
    """What it was asked, and what it answers; `translations` are the contents of its chat answers, the last repeats."""

    url: str = ""
    key: str = ""
    status: int = 200
    transcript: Any = field(default_factory=lambda: {"text": "...", "segments": SEGMENTS})
    translations: list[str] = field(default_factory=lambda: ['["Guten Abend.", "Wer ist da?"]'])
    forms: list[dict[str, str]] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    chats: list[dict[str, Any]] = field(default_factory=list)


@contextmanager
def answering(**settings: Any) -> Iterator[OpenAIStandIn]:
    """Serve it while the block lasts."""
    state = OpenAIStandIn(**settings)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            content = self.rfile.read(int(self.headers["Content-Length"]))
            if state.key and self.headers["Authorization"] != f"Bearer {state.key}":
                return self._answer(401, {})
            if self.path == "/v1/audio/transcriptions":
                self._receive(content)
                return self._answer(state.status, state.transcript)
            assert self.path == "/v1/chat/completions"
            state.chats.append(json.loads(content))
            text = state.translations[min(len(state.chats), len(state.translations)) - 1]
            return self._answer(state.status, {"choices": [{"message": {"role": "assistant", "content": text}}]})

        def _receive(self, content: bytes) -> None:
            fields: dict[str, str] = {}

            def on_file(file: Any) -> None:
                file.file_object.seek(0)
                with wave.open(io.BytesIO(file.file_object.read())) as sound:
                    assert sound.getframerate() == 16000
                    state.seconds.append(sound.getnframes() / 16000)

            headers = {"Content-Type": self.headers["Content-Type"].encode(), "Content-Length": str(len(content))}
            parse_form(
                headers,  # type: ignore[arg-type]
                io.BytesIO(content),
                lambda part: fields.update({part.field_name.decode(): part.value.decode()}),  # type: ignore[union-attr]
                on_file,
            )
            state.forms.append(fields)

        def _answer(self, status: int, body: Any) -> None:
            content = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state.url = f"http://127.0.0.1:{server.server_port}/v1"
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
