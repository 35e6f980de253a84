"""A server on loopback with OpenAI's `/audio/transcriptions` and `/chat/completions`, which does what the test says."""

from __future__ import annotations

import io
import json
import wave
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from tests.threads import QuietHandler, http_server

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
    state = OpenAIStandIn(**settings)

    class Handler(QuietHandler):
        def do_POST(self) -> None:
            status, answer = state.status, state.transcript
            if state.key and self.headers["Authorization"] != f"Bearer {state.key}":
                self.body()
                status, answer = 401, {}
            elif self.path == "/v1/audio/transcriptions":
                fields, files = self.form()
                state.forms.append(fields)
                with wave.open(io.BytesIO(files["file"])) as sound:
                    assert sound.getframerate() == 16000
                    state.seconds.append(sound.getnframes() / 16000)
            else:
                assert self.path == "/v1/chat/completions"
                state.chats.append(json.loads(self.body()))
                text = state.translations[min(len(state.chats), len(state.translations)) - 1]
                answer = {"choices": [{"message": {"role": "assistant", "content": text}}]}
            self.answer(json.dumps(answer).encode(), status, Content_Type="application/json")

    with http_server(Handler) as port:
        state.url = f"http://127.0.0.1:{port}/v1"
        yield state
