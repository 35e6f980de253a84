"""Live sessions for coroutines under asyncio."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Self

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from lipwright_client.live_line import AHEAD_SECONDS, LiveLine, ended_in_order, translated
from lipwright_client.live_talk import LiveEvent, Saying, said
from lipwright_client.settings import Settings


class AsyncLiveSession(LiveLine):
    """`lipwright_client.live.LiveSession` for coroutines; `who` is awaited."""

    _socket: ClientConnection
    _opened: AsyncExitStack

    def __init__(
        self,
        settings: Settings,
        headers: Mapping[str, str] | None,
        who: Callable[[], Awaitable[str]],
        sample_rate: int,
        shows: bool,
    ) -> None:
        super().__init__(settings, headers, sample_rate, shows)
        self._who = who

    async def __aenter__(self) -> Self:
        """Begin it; raises as `LiveSession` does."""
        address = self._address(await self._who())
        with translated():
            async with AsyncExitStack() as opened:
                self._socket = await opened.enter_async_context(connect(address, **self._options))
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
            with translated():
                try:
                    event = self._talk.hear(await self._socket.recv())
                    if event is not None and (reply := self._reply(event)) is not None:
                        await self._socket.send(reply)
                except ConnectionClosed as closed:
                    if ended_in_order(closed):
                        return
                    raise
            if event is not None:
                yield event

    async def say(self, pcm: Iterable[bytes], ahead_seconds: float = AHEAD_SECONDS) -> AsyncIterator[LiveEvent]:
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
        with translated():
            await self._socket.send(message)
