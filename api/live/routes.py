"""The WebSocket route of live sessions."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any, Final

from fastapi import APIRouter
from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from api.live.keepalive import keep_avatar_alive
from api.live.message_limits import SessionEndedError
from api.live.protocol import event
from api.live.session_limiter import SessionLimiter, SessionSlot
from api.live.session_stream import SessionOptions, SessionStream
from api.tts.service import Speaker, TtsService
from config import LiveConfig
from errors import LipwrightError, OptionError
from jobs.job_request import Caller
from rendering.live_chunk import LiveService
from storage.job_settings import MAX_EXPRESSIVENESS
from storage.records import new_id

PATH: Final = "/v1/live"
RATES: Final = (8000, 16000, 22050, 24000, 44100, 48000)
_DEFAULT_RATE: Final = 24000  # LiveAvatar's
_SEND_S: Final = 10.0
_OVERLOADED, _REFUSED, _DEFECT = 1013, 1008, 1011  # RFC 6455 and its registry


class LiveRoutes:
    """`WS /v1/live?avatar_id=...&sample_rate=24000&expressiveness=1`."""

    def __init__(self, live: LiveConfig, service: LiveService, tts: TtsService) -> None:
        self._live, self._service, self._tts = live, service, tts
        self._limiter = SessionLimiter(live)

    def router(self) -> APIRouter:
        """The route."""
        router = APIRouter()
        router.add_api_websocket_route(PATH, self.session)
        return router

    async def session(self, socket: WebSocket) -> None:
        """Serve one session and tell the client why it ended."""
        await socket.accept()
        connection = _Connection(socket)
        try:
            options = _options(socket)
            with self._limiter.enter() as slot:
                await self._serve(socket, connection, options, slot)
        except WebSocketDisconnect:
            return  # the client disconnected
        except SessionEndedError as error:
            await connection.close(error.close_code, event("session.ended", code=error.code, message=str(error)))
        except LipwrightError as error:
            await connection.close(_close_code(error), _refusal(error))
        except BaseException:
            await connection.close(
                _DEFECT,
                event("error", code=LipwrightError.code, message="Internal error. See the service log for details."),
            )
            raise

    async def _serve(
        self, socket: WebSocket, connection: _Connection, options: SessionOptions, slot: SessionSlot
    ) -> None:
        await connection.send_text(event("session.state_updated", state="connecting", session_id=options.session_id))
        first = asyncio.create_task(_next_message(socket))
        preparing = asyncio.create_task(self._prepared(socket, options, connection))
        tasks: list[asyncio.Task[Any]] = [first, preparing]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            if not preparing.done():
                first.result()  # an early message, or the client has disconnected
            session = await preparing
            slot.begin()
            owner = socket.state.caller.owner
            tasks.append(asyncio.create_task(keep_avatar_alive(self._service, socket.query_params["avatar_id"], owner)))
            ends = [asyncio.create_task(session.run()), asyncio.create_task(_receive(socket, session, first))]
            tasks += ends
            done, _ = await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _prepared(self, socket: WebSocket, options: SessionOptions, connection: _Connection) -> SessionStream:
        caller: Caller = socket.state.caller
        avatar_id = socket.query_params["avatar_id"]
        avatar = await self._service.prepare(options.session_id, avatar_id, caller.owner)
        info = avatar.source.info
        await connection.send_text(
            event(
                "session.state_updated",
                state="connected",
                width=info.width,
                height=info.height,
                fps=float(info.fps),
                sample_rate=options.sample_rate,
                max_buffered_seconds=self._live.max_buffered_seconds,
                max_ahead_seconds=self._live.max_ahead_seconds,
                idle_timeout_s=self._live.idle_timeout_s,
            )
        )
        speaker = Speaker(self._tts, caller.owner)
        return SessionStream(options, avatar, self._live, self._service, connection, speaker)


class _Connection:
    """The WebSocket with send timeouts; sends nothing after it is closed."""

    def __init__(self, socket: WebSocket) -> None:
        self._socket = socket

    async def send_text(self, data: str) -> None:
        await asyncio.wait_for(self._socket.send_text(data), _SEND_S)

    async def send_bytes(self, data: bytes) -> None:
        await asyncio.wait_for(self._socket.send_bytes(data), _SEND_S)

    async def close(self, code: int, last_message: str) -> None:
        """Send the reason and close, if the client is still connected."""
        if self._socket.client_state is not WebSocketState.CONNECTED:
            return
        with suppress(WebSocketDisconnect, RuntimeError, TimeoutError, OSError):
            await self.send_text(last_message)
            await asyncio.wait_for(self._socket.close(code), _SEND_S)


async def _receive(socket: WebSocket, session: SessionStream, first: asyncio.Task[dict[str, object]]) -> None:
    message = await first
    while True:
        if (text := message.get("text")) is not None:
            await session.take_text(str(text))
        elif isinstance(data := message.get("bytes"), bytes):
            await session.take_bytes(data)
        message = await _next_message(socket)


async def _next_message(socket: WebSocket) -> dict[str, object]:
    """Return the next message.

    Raises:
        WebSocketDisconnect: The client disconnected.
    """
    message = await socket.receive()
    if message["type"] == "websocket.disconnect":
        raise WebSocketDisconnect(message.get("code") or 1005)
    return dict(message)


def _options(socket: WebSocket) -> SessionOptions:
    rate = socket.query_params.get("sample_rate", str(_DEFAULT_RATE))
    if rate not in map(str, RATES):
        raise OptionError(f"sample_rate: expected one of {', '.join(map(str, RATES))}, found {rate[:20]!r}.")
    if not socket.query_params.get("avatar_id"):
        raise OptionError("avatar_id is required. Create an avatar with POST /v1/avatars.")
    return SessionOptions(new_id(), int(rate), _expressiveness(socket.query_params.get("expressiveness", "1")))


def _expressiveness(text: str) -> float:
    with suppress(ValueError):
        if 0 <= (value := float(text)) <= MAX_EXPRESSIVENESS:
            return value
    raise OptionError(f"expressiveness: expected a number from 0 to {MAX_EXPRESSIVENESS}, found {text[:20]!r}.")


def _refusal(error: LipwrightError) -> str:
    wait_s = error.retry_after_s
    return event("error", code=error.code, message=str(error), retryable=error.retryable, retry_after_s=wait_s)


def _close_code(error: LipwrightError) -> int:
    if error.retryable:
        return _OVERLOADED
    return _REFUSED if error.status_code < 500 else _DEFECT
