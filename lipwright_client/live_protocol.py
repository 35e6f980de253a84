"""What is said in a live session, and what it means; `live` and `async_live` only carry it.

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

_WITH_MEDIA: Final = ("session.stream", "session.fragment")
_BYTES_OF_A_SAMPLE: Final = 2


@dataclass(frozen=True)
class LiveEvent:
    """One word of the service.

    Attributes:
        type: `session.state_updated`, `session.stream`, `session.fragment`, `agent.speak_started`, `agent.speak_ended`,
            `agent.speak_interrupted`, `session.ended` or `error`.
        raw: Its fields.
        media: Bytes of a fragmented MP4 that belong to it: its head with `session.stream`, pictures and sound with
            `session.fragment`. In order they are one file.
    """

    type: str
    raw: dict[str, Any] = field(repr=False)
    media: bytes = field(default=b"", repr=False)


def live_url(settings: Settings, avatar_id: str, sample_rate: int) -> str:
    """Where a session is begun."""
    query = httpx.QueryParams({"avatar_id": avatar_id, "sample_rate": sample_rate})
    return f"{settings.base_url.replace('http', 'ws', 1)}/v1/live?{query}"


def encode_message(kind: str, **fields: Any) -> str:
    """One message to the service."""
    return json.dumps({"type": kind, **fields})


class LiveProtocol:
    """Reads one session's messages.

    Attributes:
        connected: What the service said as it began: width, height, fps, bounds; None before.
    """

    def __init__(self) -> None:
        self.connected: dict[str, Any] | None = None
        self._waits_for_media: LiveEvent | None = None

    def receive(self, message: str | bytes) -> LiveEvent | None:
        """What a message means; None where the rest of it is still to come.

        Raises:
            ProblemError: The service refuses the session.
            UnexpectedAnswerError: It is none of the service's.
        """
        if isinstance(message, bytes):
            event, self._waits_for_media = self._waits_for_media, None
            if event is None:
                raise UnexpectedAnswerError(f"Expected text, found {len(message)} bytes.")
            return LiveEvent(event.type, event.raw, message)
        event = _event(message)
        if event.type == "error" and "retryable" in event.raw:
            raise _refusal(event.raw)
        if event.type in _WITH_MEDIA:
            self._waits_for_media = event
            return None
        if event.raw.get("state") == "connected" and self.connected is None:
            self.connected = event.raw
        return event


class PacedAudio:
    """Sends sound as fast as it is spoken, and no faster; what is on its way counts, too.

    Args:
        pieces: 16 bit little-endian mono PCM.
        sample_rate: Of the session.
        ahead_seconds: What waits at the service.

    Attributes:
        is_over: Whether all of it was spoken.
    """

    def __init__(self, pieces: Iterator[bytes], sample_rate: int, ahead_seconds: float) -> None:
        self.is_over = False
        self._pieces, self._rate, self._ahead = pieces, sample_rate, ahead_seconds
        self._is_sent = self._was_anything = False
        self._sent = 0.0  # seconds
        self._begun: float | None = None  # where the stream was at first

    def after(self, event: LiveEvent) -> Iterator[str | bytes]:
        """What is sent after an event; the caller takes all of it."""
        if event.type == "agent.speak_ended" and self._is_sent:
            self.is_over = True
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
            seconds = len(piece) / _BYTES_OF_A_SAMPLE / self._rate
            buffered, self._sent = buffered + seconds, self._sent + seconds
            yield piece


def _event(message: str) -> LiveEvent:
    try:
        raw = json.loads(message)
        return LiveEvent(str(raw["type"]), raw)
    except (ValueError, KeyError, TypeError):
        raise UnexpectedAnswerError(f"Expected an event of a live session, found {message[:200]!r}.") from None


def _refusal(raw: dict[str, Any]) -> ProblemError:
    code = str(raw.get("code", ""))
    again = raw.get("retry_after_s")
    detail = str(raw.get("message", "")) + (f" Try again in {again:g} s." if again else "")
    status = 503 if raw["retryable"] else 400
    return problem_error(Problem(code, code.replace("_", " "), detail, status, bool(raw["retryable"])))
