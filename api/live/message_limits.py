"""How much a client may send: messages, their size, and mistakes."""

from __future__ import annotations

import time
from typing import Final

from config import LiveConfig
from errors import LipwrightError

_MAX_INVALID: Final = 16


class SessionEndedError(LipwrightError):
    """The session is over; `close_code` is for the socket (RFC 6455, 7.4)."""

    status_code = 409
    code = "session_ended"

    def __init__(self, reason: str, close_code: int) -> None:
        super().__init__(reason, close_code)
        self.close_code = close_code


class MessageLimits:
    """What one client has left; who passes a bound is sent away."""

    def __init__(self, live: LiveConfig) -> None:
        self._live = live
        self._left, self._at = 2 * live.max_messages_per_s, time.monotonic()
        self._num_invalid = 0

    def count(self, num_bytes: int) -> None:
        """Count one message.

        Raises:
            SessionEndedError: It is one too many, or too long.
        """
        now, rate = time.monotonic(), self._live.max_messages_per_s
        self._left = min(2 * rate, self._left + (now - self._at) * rate) - 1
        self._at = now
        if self._left < 0:
            raise SessionEndedError(f"Expected at most {rate:g} messages a second, found more.", 1008)
        if num_bytes > self._live.max_message_bytes:
            raise SessionEndedError(f"Expected at most {self._live.max_message_bytes} bytes, found {num_bytes}.", 1009)

    def count_invalid(self) -> None:
        """Count one message that is none.

        Raises:
            SessionEndedError: It is one too many.
        """
        self._num_invalid += 1
        if self._num_invalid > _MAX_INVALID:
            raise SessionEndedError("Too many messages that are none.", 1008)
