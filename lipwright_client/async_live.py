"""Live sessions for asyncio."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Self

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from lipwright_client.live_connection import AHEAD_SECONDS, LiveConnection, client_errors, is_clean_close
from lipwright_client.live_protocol import LiveEvent, PacedAudio, encode_message
from lipwright_client.settings import Settings


class AsyncLiveSession(LiveConnection):
    """`lipwright_client.live.LiveSession` for asyncio; `get_avatar_id` is a coroutine function."""

    _socket: ClientConnection
    _opened: AsyncExitStack

    def __init__(
        self,
        settings: Settings,
        headers: Mapping[str, str] | None,
        get_avatar_id: Callable[[], Awaitable[str]],
        sample_rate: int,
        shows: bool,
    ) -> None:
        super().__init__(settings, headers, sample_rate, shows)
        self._get_avatar_id = get_avatar_id

    async def __aenter__(self) -> Self:
        """Start the session; raises the same errors as `LiveSession`."""
        address = self._address(await self._get_avatar_id())
        with client_errors():
            async with AsyncExitStack() as opened:
                self._socket = await opened.enter_async_context(connect(address, **self._options))
                while self._protocol.connected is None:
                    event = self._protocol.receive(await self._socket.recv())
                    if event is not None:
                        self._first.append(event)
                self._opened = opened.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the session."""
        await self._opened.aclose()

    async def __aiter__(self) -> AsyncIterator[LiveEvent]:
        """Yield the events of the session; raises the same errors as `LiveSession`."""
        while self._first:
            yield self._first.pop(0)
        while True:
            with client_errors():
                try:
                    event = self._protocol.receive(await self._socket.recv())
                    if event is not None and (reply := self._reply(event)) is not None:
                        await self._socket.send(reply)
                except ConnectionClosed as closed:
                    if is_clean_close(closed):
                        return
                    raise
            if event is not None:
                yield event

    async def say(self, pcm: Iterable[bytes], ahead_seconds: float = AHEAD_SECONDS) -> AsyncIterator[LiveEvent]:
        """Send audio in real time, and yield events until all of it is spoken."""
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

    async def showed(self, position_seconds: float) -> None:
        """Report the playback position; needed only with `shows_at_once=False`."""
        await self._send(encode_message("session.playback", position_seconds=position_seconds))

    async def _send(self, message: str | bytes) -> None:
        with client_errors():
            await self._socket.send(message)
