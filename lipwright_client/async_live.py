"""Live sessions: an avatar speaks audio while it is sent."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, contextmanager
from typing import Any, Final, Protocol, Self

from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus

from lipwright_client.errors import ConnectionFailedError, Problem, problem_error
from lipwright_client.live_protocol import LiveEvent, LiveProtocol, PacedAudio, encode_message, live_url
from lipwright_client.settings import Settings

DEFAULT_RATE: Final = 24000
AHEAD_SECONDS: Final = 5.0
"""Audio buffered at the service by `say`."""

_MAX_MESSAGE_BYTES: Final = 2**24
_AUTH_STATUSES: Final = (401, 403)
_REJECTED: Final = "The service rejected the live session. Check the API key."
# RFC 6455 close codes of regular ends; the service sent the reason before.
_CLEAN_CLOSE_CODES: Final = (1000, 1001, 1008, 1013)


class Socket(Protocol):
    """A connected WebSocket."""

    async def recv(self) -> str | bytes:
        """Receive a message."""

    async def send(self, message: str | bytes) -> None:
        """Send a message."""


class AsyncLiveSession:
    """A live session: an asynchronous context manager and an iterator over its events.

    Args:
        settings: Connection settings.
        headers: Extra headers.
        get_subject: Returns the option that names the avatar, or the session to continue.
        sample_rate: Sample rate of the sent audio, in Hz.
        shows: Whether received video counts as played immediately.
        connect: Opens the WebSocket at a URL, with the options of `websockets`.
        receives_video: Whether the service sends the video to this client, and not only to the outputs.
        options: Further options of the session; None stands for the default.
    """

    _socket: Socket
    _opened: AsyncExitStack

    def __init__(
        self,
        settings: Settings,
        headers: Mapping[str, str] | None,
        get_subject: Callable[[], Awaitable[Mapping[str, str]]],
        sample_rate: int,
        shows: bool,
        connect: Callable[..., AbstractAsyncContextManager[Socket]],
        receives_video: bool = True,
        options: Mapping[str, object] | None = None,
    ) -> None:
        self.sample_rate, self._more_options = sample_rate, options or {}
        self._receives_video = receives_video
        self._settings, self._headers = settings, headers
        self._get_subject, self._connect = get_subject, connect
        self._shows = shows and receives_video
        self._protocol = LiveProtocol(receives_video)
        self._first: list[LiveEvent] = []

    @property
    def connected(self) -> Mapping[str, Any]:
        """The session's properties: `session_id`, `width`, `height`, `fps` and limits."""
        assert self._protocol.connected is not None
        return self._protocol.connected

    async def __aenter__(self) -> Self:
        """Start the session.

        Raises:
            BusyError: All sessions are in use.
            NotFoundError: The avatar does not exist.
            FaceNotFoundError: The given video has no face.
            OptionError: The service does not accept an option.
            ConnectionFailedError: The service cannot be reached.
        """
        address = live_url(
            self._settings,
            **await self._get_subject(),
            sample_rate=self.sample_rate,
            receive_video=self._receives_video,
            **self._more_options,
        )
        with _client_errors():
            async with AsyncExitStack() as opened:
                self._socket = await opened.enter_async_context(self._connect(address, **self._options()))
                while self._protocol.connected is None:
                    event = self._protocol.receive(await self._socket.recv())
                    if event is not None:
                        self._first.append(event)
                self._opened = opened.pop_all()
        return self

    async def __aexit__(self, *error: object) -> None:
        """End the session."""
        await self._opened.aclose()

    async def __aiter__(self) -> AsyncGenerator[LiveEvent, None]:
        """Yield the events of the session.

        Raises:
            ProblemError: The service failed to render the avatar.
            ConnectionFailedError: The connection broke.
        """
        while self._first:
            yield self._first.pop(0)
        while True:
            with _client_errors():
                try:
                    event = self._protocol.receive(await self._socket.recv())
                    if event is not None and event.type == "session.fragment" and self._shows:
                        played = encode_message("session.playback", position_seconds=event.raw["start_seconds"])
                        await self._socket.send(played)
                except ConnectionClosed as closed:
                    if closed.rcvd is not None and closed.rcvd.code in _CLEAN_CLOSE_CODES:
                        return
                    raise
            if event is not None:
                yield event

    async def say(self, pcm: Iterable[bytes], ahead_seconds: float = AHEAD_SECONDS) -> AsyncGenerator[LiveEvent, None]:
        """Send audio in real time, and yield events until all of it is spoken.

        Args:
            pcm: Chunks of 16-bit little-endian mono PCM at the session's rate.
            ahead_seconds: How much audio to buffer at the service.
        """
        paced = PacedAudio(iter(pcm), self.sample_rate, ahead_seconds)
        async for event in self:
            for message in paced.after(event):
                await self._send(message)
            yield event
            if paced.is_over:
                return

    async def speak(self, pcm: bytes) -> None:
        """Send 16-bit little-endian mono PCM."""
        await self._send(pcm)

    async def speak_text(self, text: str, voice: str | None = None) -> None:
        """Send a text to be spoken by the service's voice."""
        await self._send(encode_message("agent.speak_text", text=text, voice=voice))

    async def speak_end(self) -> None:
        """Mark the end of the utterance."""
        await self._send(encode_message("agent.speak_end"))

    async def interrupt(self) -> None:
        """Stop speaking at once."""
        await self._send(encode_message("agent.interrupt"))

    async def keep_alive(self) -> None:
        """Prevent the idle timeout."""
        await self._send(encode_message("session.keep_alive"))

    async def start_output(self, url: str, token: str | None = None) -> None:
        """Push the session to a destination that the operator of the service allows.

        `output.state_updated` events report its ID and state, `error` that the destination is not allowed.

        Args:
            url: `rtmp://` or `rtmps://host/app/key`, `srt://host:port?streamid=...`, or `https://` for WHIP.
            token: Bearer token, for WHIP.
        """
        await self._send(encode_message("output.start", url=url, token=token))

    async def stop_output(self, output_id: str) -> None:
        """Stop pushing to a destination."""
        await self._send(encode_message("output.stop", output_id=output_id))

    async def list_outputs(self) -> None:
        """Ask for an `output.list` event with the state of all outputs."""
        await self._send(encode_message("output.list"))

    async def showed(self, position_seconds: float) -> None:
        """Report the playback position; needed only with `shows_at_once=False`."""
        await self._send(encode_message("session.playback", position_seconds=position_seconds))

    async def _send(self, message: str | bytes) -> None:
        with _client_errors():
            await self._socket.send(message)

    def _options(self) -> dict[str, Any]:
        options = self._settings.httpx_options(self._headers)
        return {
            "additional_headers": options["headers"],
            "proxy": True if options["trust_env"] else None,
            "open_timeout": self._settings.timeout_s,
            "max_size": _MAX_MESSAGE_BYTES,
            "compression": None,
        }


@contextmanager
def _client_errors() -> Iterator[None]:
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
