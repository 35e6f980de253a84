"""Shared by sync and async live sessions: connection options and error mapping."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus

from lipwright_client.errors import ConnectionFailedError, Problem, problem_error
from lipwright_client.live_protocol import LiveEvent, LiveProtocol, encode_message, live_url
from lipwright_client.settings import Settings

DEFAULT_RATE: Final = 24000
AHEAD_SECONDS: Final = 5.0
"""Audio buffered at the service by `say`."""

_MAX_MESSAGE_BYTES: Final = 2**24
_AUTH_STATUSES: Final = (401, 403)
_REJECTED: Final = "The service rejected the live session. Check the API key."
_CLEAN_CLOSE_CODES: Final = (
    1000,
    1001,
    1008,
    1013,
)  # RFC 6455 close codes of regular ends; the service sent the reason before


class LiveConnection:
    """The client side of a session's connection.

    Args:
        settings: Connection settings.
        headers: Extra headers.
        sample_rate: Sample rate of the sent audio, in Hz.
        shows: Whether received video counts as played immediately.
    """

    def __init__(self, settings: Settings, headers: Mapping[str, str] | None, sample_rate: int, shows: bool) -> None:
        self.sample_rate = sample_rate
        self._settings = settings
        options = settings.httpx_options(headers)
        self._options: dict[str, Any] = {
            "additional_headers": options["headers"],
            "proxy": True if options["trust_env"] else None,
            "open_timeout": settings.timeout_s,
            "max_size": _MAX_MESSAGE_BYTES,
            "compression": None,
        }
        self._shows = shows
        self._protocol = LiveProtocol()
        self._first: list[LiveEvent] = []

    @property
    def connected(self) -> Mapping[str, Any]:
        """The session's properties: `width`, `height`, `fps` and limits."""
        assert self._protocol.connected is not None
        return self._protocol.connected

    def _address(self, avatar_id: str) -> str:
        return live_url(self._settings, avatar_id, self.sample_rate)

    def _reply(self, event: LiveEvent) -> str | None:
        if self._shows and event.type == "session.fragment":
            return encode_message("session.playback", position_seconds=event.raw["start_seconds"])
        return None


@contextmanager
def client_errors() -> Iterator[None]:
    """Translate exceptions of websockets into the client's errors."""
    try:
        yield
    except InvalidStatus as error:
        status = error.response.status_code
        if status in _AUTH_STATUSES:
            raise problem_error(Problem("unauthorized", "Unauthorized", _REJECTED, status)) from error
        raise ConnectionFailedError(f"The service rejected the live session with status {status}.") from error
    except (OSError, InvalidHandshake, ConnectionClosed) as error:
        raise ConnectionFailedError(f"The live session was disconnected: {error or type(error).__name__}.") from error


def is_clean_close(closed: ConnectionClosed) -> bool:
    """Return whether the service ended the session regularly."""
    return closed.rcvd is not None and closed.rcvd.code in _CLEAN_CLOSE_CODES
