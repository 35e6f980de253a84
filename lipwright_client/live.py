"""Live sessions: an avatar says what is sent, while it is sent."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from types import TracebackType
from typing import Self

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from lipwright_client.live_connection import AHEAD_SECONDS, LiveConnection, client_errors, is_clean_close
from lipwright_client.live_protocol import LiveEvent, PacedAudio, encode_message
from lipwright_client.settings import Settings


class LiveSession(LiveConnection):
    """One session, as a context manager; iterated over, it gives the service's events up to its end.

    One thread may iterate while another one speaks.

    Args:
        settings: Where the service is.
        headers: More header fields.
        get_avatar_id: Gives the id of the avatar when the session is begun.
        sample_rate: Of the sound that is sent.
        shows: Whether everything counts as shown as it comes.
    """

    _socket: ClientConnection
    _opened: ExitStack

    def __init__(
        self,
        settings: Settings,
        headers: Mapping[str, str] | None,
        get_avatar_id: Callable[[], str],
        sample_rate: int,
        shows: bool,
    ) -> None:
        super().__init__(settings, headers, sample_rate, shows)
        self._get_avatar_id = get_avatar_id

    def __enter__(self) -> Self:
        """Begin it.

        Raises:
            BusyError: All places are taken.
            NotFoundError: There is no such avatar.
            FaceNotFoundError: There is no face in the video that was given in place of one.
            ConnectionFailedError: There is no service.
        """
        address = self._address(self._get_avatar_id())
        with client_errors(), ExitStack() as opened:
            self._socket = opened.enter_context(connect(address, **self._options))
            while self._protocol.connected is None:
                event = self._protocol.receive(self._socket.recv())
                if event is not None:
                    self._first.append(event)
            self._opened = opened.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End it."""
        self._opened.close()

    def __iter__(self) -> Iterator[LiveEvent]:
        """Its events.

        Raises:
            ProblemError: The service cannot show the avatar any more.
            ConnectionFailedError: The line broke.
        """
        while self._first:
            yield self._first.pop(0)
        while True:
            with client_errors():
                try:
                    event = self._protocol.receive(self._socket.recv())
                    if event is not None and (reply := self._reply(event)) is not None:
                        self._socket.send(reply)
                except ConnectionClosed as closed:
                    if is_clean_close(closed):
                        return
                    raise
            if event is not None:
                yield event

    def say(self, pcm: Iterable[bytes], ahead_seconds: float = AHEAD_SECONDS) -> Iterator[LiveEvent]:
        """Send sound as fast as it is spoken, and give the events up to where all of it was.

        Args:
            pcm: Pieces of 16 bit little-endian mono PCM at the session's rate.
            ahead_seconds: How much of it waits at the service.
        """
        paced = PacedAudio(iter(pcm), self.sample_rate, ahead_seconds)
        for event in self:
            for message in paced.after(event):
                self._send(message)
            yield event
            if paced.is_over:
                return

    def speak(self, pcm: bytes) -> None:
        """Have 16 bit little-endian mono PCM spoken."""
        self._send(pcm)

    def speak_text(self, text: str, voice: str | None = None) -> None:
        """Have a text spoken by the service's voice, where it has one."""
        self._send(encode_message("agent.speak_text", text=text, voice=voice))

    def speak_end(self) -> None:
        """All that was to be said is there."""
        self._send(encode_message("agent.speak_end"))

    def interrupt(self) -> None:
        """Silence at once."""
        self._send(encode_message("agent.interrupt"))

    def keep_alive(self) -> None:
        """Somebody is there, though nobody speaks."""
        self._send(encode_message("session.keep_alive"))

    def showed(self, position_seconds: float) -> None:
        """Up to where the stream was shown, where the session was begun with `shows_at_once=False`."""
        self._send(encode_message("session.playback", position_seconds=position_seconds))

    def _send(self, message: str | bytes) -> None:
        with client_errors():
            self._socket.send(message)
