"""Messages of live sessions; `async_live` does the I/O.

The service's `docs/live.md` describes the messages.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import httpx

from lipwright_client.errors import Problem, ProblemError, UnexpectedAnswerError, problem_error
from lipwright_client.settings import Settings

_MEDIA_EVENTS: Final = ("session.stream", "session.fragment")
SAMPLE_BYTES: Final = 2


@dataclass(frozen=True)
class LiveEvent:
    """An event of a live session.

    Attributes:
        type: `session.state_updated`, `session.stream`, `session.fragment`, `agent.speak_started`, `agent.speak_ended`,
            `agent.speak_interrupted`, `agent.action_started`, `output.state_updated`, `output.list`, `session.ended` or
            `error`.
        raw: All fields.
        media: Fragmented MP4 data: the header with `session.stream`, fragments with `session.fragment`.
            Concatenated, they form one file. `session.stream` comes again after a reconnection and begins a new one.
    """

    type: str
    raw: dict[str, Any] = field(repr=False)
    media: bytes = field(default=b"", repr=False)


RECONNECTING: Final = LiveEvent("session.state_updated", {"type": "session.state_updated", "state": "reconnecting"})
"""The connection broke, and the client opens another one."""


def live_url(settings: Settings, **options: object) -> str:
    """Return the WebSocket URL of a session with the options that are not None."""
    query = httpx.QueryParams({name: _text(value) for name, value in options.items() if value is not None})
    return f"{settings.base_url.replace('http', 'ws', 1)}/v1/live?{query}"


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def encode_message(kind: str, **fields: object) -> str:
    """Encode a message to the service."""
    return json.dumps({"type": kind, **fields})


class LiveProtocol:
    """Parses the messages of one session.

    Args:
        receives_video: Whether the service sends the video.

    Attributes:
        connected: Properties of the session (width, height, fps, limits); None before it is connected.
    """

    def __init__(self, receives_video: bool = True) -> None:
        self._media_events = _MEDIA_EVENTS if receives_video else ()
        self.connected: dict[str, Any] | None = None
        self._waits_for_media: LiveEvent | None = None

    def receive(self, message: str | bytes) -> LiveEvent | None:
        """Parse a message; None if its media is still to come.

        Raises:
            ProblemError: The service rejected the session.
            UnexpectedAnswerError: The message is invalid.
        """
        if isinstance(message, bytes):
            event, self._waits_for_media = self._waits_for_media, None
            if event is None:
                raise UnexpectedAnswerError(f"Unexpected binary message of {len(message)} bytes.")
            return LiveEvent(event.type, event.raw, message)
        event = _event(message)
        if event.type == "error" and "retryable" in event.raw:
            raise _rejection(event.raw)
        if event.type in self._media_events:
            self._waits_for_media = event
            return None
        if event.raw.get("state") == "connected" and self.connected is None:
            self.connected = event.raw
        return event


class PacedAudio:
    """Paces audio in real time; audio in transit counts as sent.

    Args:
        pieces: Chunks of 16-bit little-endian mono PCM.
        sample_rate: Sample rate of the session, in Hz.
        ahead_seconds: How much audio to buffer at the service.

    Attributes:
        is_over: Whether all audio was spoken, or interrupted after all was sent.
    """

    def __init__(self, pieces: Iterator[bytes], sample_rate: int, ahead_seconds: float) -> None:
        self.is_over = False
        self._pieces, self._rate, self._ahead = pieces, sample_rate, ahead_seconds
        self._is_sent = self._was_anything = False
        self._sent = 0.0  # seconds
        self._begun: float | None = None  # start of the stream

    def after(self, event: LiveEvent) -> Iterator[str | bytes]:
        """Yield the messages to send after an event; the caller must send all of them."""
        if event.type in ("agent.speak_ended", "agent.speak_interrupted") and self._is_sent:
            self.is_over = True
        if event == RECONNECTING:  # the time of the stream may begin again
            self._begun, self._sent = None, 0.0
        if event.type != "session.fragment" or self._is_sent:
            return
        start, buffered = float(event.raw["start_seconds"]), float(event.raw["buffered_seconds"])
        self._begun = start if self._begun is None else self._begun
        most = self._ahead + start - self._begun
        while buffered < self._ahead and self._sent < most:
            piece = next(self._pieces, None)
            if piece is None:
                self._is_sent, self.is_over = True, not self._was_anything
                yield encode_message("agent.speak_end")
                return
            self._was_anything |= bool(piece)
            seconds = len(piece) / SAMPLE_BYTES / self._rate
            buffered, self._sent = buffered + seconds, self._sent + seconds
            yield piece


def _event(message: str) -> LiveEvent:
    try:
        raw = json.loads(message)
        return LiveEvent(str(raw["type"]), raw)
    except (ValueError, KeyError, TypeError):
        raise UnexpectedAnswerError(f"Invalid live session event: {message[:200]!r}.") from None


def _rejection(raw: dict[str, Any]) -> ProblemError:
    code = str(raw.get("code", ""))
    again = raw.get("retry_after_s")
    detail = str(raw.get("message", "")) + (f" Try again in {again:g} s." if again else "")
    status = 503 if raw["retryable"] else 400
    return problem_error(Problem(code, code.replace("_", " "), detail, status, bool(raw["retryable"])))
