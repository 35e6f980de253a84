"""Synchronous live sessions: `async_live` over a blocking connection."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

from lipwright_client.async_live import AsyncLiveSession
from lipwright_client.blocking import Blocking, blocking, finish, iterating


class LiveSession(Blocking[AsyncLiveSession]):
    """A live session: a context manager and an iterator over its events. `AsyncLiveSession` describes the methods.

    One thread may iterate while another one sends.
    """

    speak = blocking(AsyncLiveSession.speak)
    speak_text = blocking(AsyncLiveSession.speak_text)
    speak_end = blocking(AsyncLiveSession.speak_end)
    interrupt = blocking(AsyncLiveSession.interrupt)
    keep_alive = blocking(AsyncLiveSession.keep_alive)
    start_output = blocking(AsyncLiveSession.start_output)
    stop_output = blocking(AsyncLiveSession.stop_output)
    list_outputs = blocking(AsyncLiveSession.list_outputs)
    report_playback = blocking(AsyncLiveSession.report_playback)
    say = iterating(AsyncLiveSession.say)
    __iter__ = iterating(AsyncLiveSession.__aiter__)

    @property
    def sample_rate(self) -> int:
        """Sample rate of the sent audio, in Hz."""
        return self._async.sample_rate

    @property
    def connected(self) -> Mapping[str, Any]:
        """The session's properties: `width`, `height`, `fps` and limits."""
        return self._async.connected

    def __enter__(self) -> Self:
        finish(self._async.__aenter__())
        return self

    def __exit__(self, *error: object) -> None:
        finish(self._async.__aexit__(*error))
