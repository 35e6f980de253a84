"""What both kinds of live session have in common: how they connect, and how their lines end."""

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
"""Sound that waits at the service while it is said."""

_MAX_MESSAGE_BYTES: Final = 2**24
_NOT_LET_IN: Final = (401, 403)
_WHO: Final = "The service lets this client hold no live session; is the API key right?"
_IN_ORDER: Final = (1000, 1001, 1008, 1013)  # RFC 6455: the service has said why before


class LiveConnection:
    """One session's end of the line.

    Args:
        settings: Where the service is.
        headers: More header fields.
        sample_rate: Of the sound that is sent.
        shows: Whether everything counts as shown as it comes.
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
        """What the service said as the session began: `width`, `height`, `fps` and its bounds."""
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
    """Whatever websockets raises, as the client's own errors."""
    try:
        yield
    except InvalidStatus as error:
        status = error.response.status_code
        if status in _NOT_LET_IN:
            raise problem_error(Problem("unauthorized", "Unauthorized", _WHO, status)) from error
        raise ConnectionFailedError(f"Expected a live session, found status {status}.") from error
    except (OSError, InvalidHandshake, ConnectionClosed) as error:
        raise ConnectionFailedError(f"The live session broke off: {error or type(error).__name__}.") from error


def is_clean_close(closed: ConnectionClosed) -> bool:
    """Whether the service has ended the session, and not an accident."""
    return closed.rcvd is not None and closed.rcvd.code in _IN_ORDER
