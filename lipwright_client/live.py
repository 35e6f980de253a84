"""Live sessions: an avatar speaks audio while it is sent."""

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
    """A live session: a context manager and an iterator over its events.

    One thread may iterate while another one sends.

    Args:
        settings: Connection settings.
        headers: Extra headers.
        get_avatar_id: Returns the avatar ID when the session starts.
        sample_rate: Sample rate of the sent audio, in Hz.
        shows: Whether received video counts as played immediately.
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
        """Start the session.

        Raises:
            BusyError: All sessions are in use.
            NotFoundError: The avatar does not exist.
            FaceNotFoundError: The given video has no face.
            ConnectionFailedError: The service cannot be reached.
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
        """End the session."""
        self._opened.close()

    def __iter__(self) -> Iterator[LiveEvent]:
        """Yield the events of the session.

        Raises:
            ProblemError: The service failed to render the avatar.
            ConnectionFailedError: The connection broke.
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
        """Send audio in real time, and yield events until all of it is spoken.

        Args:
            pcm: Chunks of 16-bit little-endian mono PCM at the session's rate.
            ahead_seconds: How much audio to buffer at the service.
        """
        paced = PacedAudio(iter(pcm), self.sample_rate, ahead_seconds)
        for event in self:
            for message in paced.after(event):
                self._send(message)
            yield event
            if paced.is_over:
                return

    def speak(self, pcm: bytes) -> None:
        """Send 16-bit little-endian mono PCM."""
        self._send(pcm)

    def speak_text(self, text: str, voice: str | None = None) -> None:
        """Send a text to be spoken by the service's voice."""
        self._send(encode_message("agent.speak_text", text=text, voice=voice))

    def speak_end(self) -> None:
        """Mark the end of the utterance."""
        self._send(encode_message("agent.speak_end"))

    def interrupt(self) -> None:
        """Stop speaking at once."""
        self._send(encode_message("agent.interrupt"))

    def keep_alive(self) -> None:
        """Prevent the idle timeout."""
        self._send(encode_message("session.keep_alive"))

    def showed(self, position_seconds: float) -> None:
        """Report the playback position; needed only with `shows_at_once=False`."""
        self._send(encode_message("session.playback", position_seconds=position_seconds))

    def _send(self, message: str | bytes) -> None:
        with client_errors():
            self._socket.send(message)
