"""Live sessions: a kept presenter says what is sent, while it is sent."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from contextlib import AsyncExitStack, ExitStack, contextmanager
from types import TracebackType
from typing import Any, Final, Self

from websockets.asyncio.client import ClientConnection as AsyncConnection
from websockets.asyncio.client import connect as connect_async
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from lipwright_client.errors import ConnectionFailedError, Problem, problem_error
from lipwright_client.live_talk import LiveEvent, LiveTalk, Saying, live_address, said
from lipwright_client.settings import Settings

DEFAULT_RATE: Final = 24000
_AHEAD_SECONDS: Final = 5.0
_MAX_MESSAGE_BYTES: Final = 2**24
_NOT_LET_IN: Final = (401, 403)
_WHO: Final = "The service lets this client hold no live session; is the API key right?"
_IN_ORDER: Final = (1000, 1001, 1008, 1013)  # RFC 6455: the service has said why before


class _Session:
    """What both kinds of session have in common."""

    def __init__(
        self, settings: Settings, headers: Mapping[str, str] | None, avatar_id: str, sample_rate: int, shows: bool
    ) -> None:
        self.sample_rate = sample_rate
        self._address = live_address(settings, avatar_id, sample_rate)
        options = settings.httpx_options(headers)
        self._options: dict[str, Any] = {
            "additional_headers": options["headers"],
            "proxy": True if options["trust_env"] else None,
            "open_timeout": settings.timeout_s,
            "max_size": _MAX_MESSAGE_BYTES,
            "compression": None,
        }
        self._shows = shows
        self._talk = LiveTalk()
        self._first: list[LiveEvent] = []

    @property
    def connected(self) -> Mapping[str, Any]:
        """What the service said as the session began: `width`, `height`, `fps` and its bounds."""
        assert self._talk.connected is not None
        return self._talk.connected

    def _reply(self, event: LiveEvent) -> str | None:
        if self._shows and event.type == "session.fragment":
            return said("session.playback", position_seconds=event.raw["start_seconds"])
        return None


class LiveSession(_Session):
    """One session, as a context manager; iterated over, it gives the service's events up to its end.

    One thread may iterate while another one speaks.
    """

    _socket: ClientConnection
    _opened: ExitStack

    def __enter__(self) -> Self:
        """Begin it.

        Raises:
            BusyError: All places are taken.
            NotFoundError: There is no such presenter.
            ConnectionFailedError: There is no service.
        """
        with _translated(), ExitStack() as opened:
            self._socket = opened.enter_context(connect(self._address, **self._options))
            while self._talk.connected is None:
                event = self._talk.hear(self._socket.recv())
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
            ProblemError: The service cannot show the presenter any more.
            ConnectionFailedError: The line broke.
        """
        while self._first:
            yield self._first.pop(0)
        while True:
            with _translated():
                try:
                    event = self._talk.hear(self._socket.recv())
                    if event is not None and (reply := self._reply(event)) is not None:
                        self._socket.send(reply)
                except ConnectionClosed as closed:
                    if closed.rcvd is not None and closed.rcvd.code in _IN_ORDER:
                        return
                    raise
            if event is not None:
                yield event

    def say(self, pcm: Iterable[bytes], ahead_seconds: float = _AHEAD_SECONDS) -> Iterator[LiveEvent]:
        """Send sound as fast as it is spoken, and give the events up to where all of it was.

        Args:
            pcm: Pieces of 16 bit little-endian mono PCM at the session's rate.
            ahead_seconds: How much of it waits at the service.
        """
        saying = Saying(iter(pcm), self.sample_rate, ahead_seconds)
        for event in self:
            for message in saying.after(event):
                self._send(message)
            yield event
            if saying.is_over:
                return

    def speak(self, pcm: bytes) -> None:
        """Have 16 bit little-endian mono PCM spoken."""
        self._send(pcm)

    def speak_text(self, text: str, voice: str | None = None) -> None:
        """Have a text spoken by the service's voice, where it has one."""
        self._send(said("agent.speak_text", text=text, voice=voice))

    def speak_end(self) -> None:
        """All that was to be said is there."""
        self._send(said("agent.speak_end"))

    def interrupt(self) -> None:
        """Silence at once."""
        self._send(said("agent.interrupt"))

    def keep_alive(self) -> None:
        """Somebody is there, though nobody speaks."""
        self._send(said("session.keep_alive"))

    def showed(self, position_seconds: float) -> None:
        """Up to where the stream was shown, where the session was begun with `shows_at_once=False`."""
        self._send(said("session.playback", position_seconds=position_seconds))

    def _send(self, message: str | bytes) -> None:
        with _translated():
            self._socket.send(message)


class AsyncLiveSession(_Session):
    """The same for coroutines under asyncio."""

    _socket: AsyncConnection
    _opened: AsyncExitStack

    async def __aenter__(self) -> Self:
        """Begin it; raises as `LiveSession` does."""
        with _translated():
            async with AsyncExitStack() as opened:
                self._socket = await opened.enter_async_context(connect_async(self._address, **self._options))
                while self._talk.connected is None:
                    event = self._talk.hear(await self._socket.recv())
                    if event is not None:
                        self._first.append(event)
                self._opened = opened.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End it."""
        await self._opened.aclose()

    async def __aiter__(self) -> AsyncIterator[LiveEvent]:
        """Its events; raises as `LiveSession` does."""
        while self._first:
            yield self._first.pop(0)
        while True:
            with _translated():
                try:
                    event = self._talk.hear(await self._socket.recv())
                    if event is not None and (reply := self._reply(event)) is not None:
                        await self._socket.send(reply)
                except ConnectionClosed as closed:
                    if closed.rcvd is not None and closed.rcvd.code in _IN_ORDER:
                        return
                    raise
            if event is not None:
                yield event

    async def say(self, pcm: Iterable[bytes], ahead_seconds: float = _AHEAD_SECONDS) -> AsyncIterator[LiveEvent]:
        """Send sound as fast as it is spoken, and give the events up to where all of it was."""
        saying = Saying(iter(pcm), self.sample_rate, ahead_seconds)
        async for event in self:
            for message in saying.after(event):
                await self._send(message)
            yield event
            if saying.is_over:
                return

    async def speak(self, pcm: bytes) -> None:
        """Have 16 bit little-endian mono PCM spoken."""
        await self._send(pcm)

    async def speak_text(self, text: str, voice: str | None = None) -> None:
        """Have a text spoken by the service's voice, where it has one."""
        await self._send(said("agent.speak_text", text=text, voice=voice))

    async def speak_end(self) -> None:
        """All that was to be said is there."""
        await self._send(said("agent.speak_end"))

    async def interrupt(self) -> None:
        """Silence at once."""
        await self._send(said("agent.interrupt"))

    async def keep_alive(self) -> None:
        """Somebody is there, though nobody speaks."""
        await self._send(said("session.keep_alive"))

    async def showed(self, position_seconds: float) -> None:
        """Up to where the stream was shown, where the session was begun with `shows_at_once=False`."""
        await self._send(said("session.playback", position_seconds=position_seconds))

    async def _send(self, message: str | bytes) -> None:
        with _translated():
            await self._socket.send(message)


@contextmanager
def _translated() -> Iterator[None]:
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
