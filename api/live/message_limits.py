"""Limits on what a client may send: message rate, message size and invalid messages."""

from __future__ import annotations

import time
from typing import Final

from config import LiveConfig
from errors import LipwrightError

_MAX_INVALID: Final = 16


class SessionEndedError(LipwrightError, code="session_ended", status_code=409):
    """The session has ended; `close_code` is the WebSocket close code (RFC 6455, 7.4)."""

    def __init__(self, reason: str, close_code: int) -> None:
        super().__init__(reason, close_code)
        self.close_code = close_code


class MessageLimits:
    """Counts the messages of one client. Exceeding a limit ends the session."""

    def __init__(self, live: LiveConfig) -> None:
        self._live = live
        self._left, self._at = 2 * live.max_messages_per_s, time.monotonic()
        self._num_invalid = 0

    def count(self, num_bytes: int) -> None:
        """Count one message.

        Raises:
            SessionEndedError: The client sends too many messages, or the message is too large.
        """
        now, rate = time.monotonic(), self._live.max_messages_per_s
        self._left = min(2 * rate, self._left + (now - self._at) * rate) - 1
        self._at = now
        if self._left < 0:
            raise SessionEndedError(f"Too many messages: the limit is {rate:g} per second.", 1008)
        if num_bytes > self._live.max_message_bytes:
            raise SessionEndedError(
                f"The message has {num_bytes} bytes; the limit is {self._live.max_message_bytes}.", 1009
            )

    def count_invalid(self) -> None:
        """Count an invalid message.

        Raises:
            SessionEndedError: There were too many.
        """
        self._num_invalid += 1
        if self._num_invalid > _MAX_INVALID:
            raise SessionEndedError("Too many invalid messages.", 1008)
