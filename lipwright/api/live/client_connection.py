"""The WebSocket of a live session's client, which may be lost and replaced."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from typing import Any, Final

from starlette.types import Message
from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

LOST: Final = 1006
"""RFC 6455: the connection broke."""

logger = logging.getLogger(__name__)

_SEND_S: Final = 10.0


class ClientConnection:
    """Sends to the current client, with timeouts. What it sends while there is none is lost.

    Args:
        socket: The accepted WebSocket.

    Attributes:
        receives_video: Whether a client is connected that wants the video.
        needs_head: Whether it has not received the head of the stream.
    """

    def __init__(self, socket: WebSocket) -> None:
        self.attach(socket)

    @property
    def is_attached(self) -> bool:
        """Whether a client is connected, as far as is known."""
        return not self._is_lost.is_set()

    def attach(self, socket: WebSocket, is_over: asyncio.Event | None = None) -> None:
        """Send to this client from now on. `is_over` is set when its socket is no longer used."""
        self._socket, self._is_lost, self._is_over = socket, asyncio.Event(), is_over or asyncio.Event()
        self.needs_head = True
        self.receives_video = socket.query_params.get("receive_video", "true") != "false"

    def detach(self) -> None:
        """Send to nobody."""
        self._is_lost.set()
        self._is_over.set()
        self.receives_video = False

    async def until_lost(self) -> None:
        """Wait until a message cannot be sent."""
        await self._is_lost.wait()

    async def send_text(self, data: str) -> None:
        """Send a text message."""
        await self._send({"type": "websocket.send", "text": data})

    async def send_bytes(self, data: bytes) -> None:
        """Send a binary message."""
        await self._send({"type": "websocket.send", "bytes": data})

    async def _send(self, message: Message) -> None:
        socket, is_lost = self._socket, self._is_lost
        with suppress(WebSocketDisconnect, RuntimeError, OSError, TimeoutError):
            if not is_lost.is_set():
                async with asyncio.timeout(_SEND_S):
                    await socket.send(message)
                return
        if is_lost is self._is_lost:  # else another client has taken over
            self.detach()

    async def close(self, code: int, last_message: str) -> None:
        """Send the reason and close, if a client is still connected."""
        try:
            if self._socket.client_state is WebSocketState.CONNECTED:
                await self.send_text(last_message)
                async with asyncio.timeout(_SEND_S):
                    await self._socket.close(code)
        except (WebSocketDisconnect, RuntimeError, TimeoutError, OSError):
            return  # the client has left
        finally:
            self._is_over.set()


async def next_message(socket: WebSocket) -> dict[str, Any]:
    """Return the next message.

    Raises:
        WebSocketDisconnect: The client disconnected.
    """
    try:
        message = await socket.receive()
    except Exception as error:  # Ray's, when Serve's proxy has died
        logger.warning("live session: the connection to a client is lost: %s", error)
        raise WebSocketDisconnect(LOST) from error
    if message["type"] == "websocket.disconnect":
        raise WebSocketDisconnect(message.get("code") or 1005)
    return dict(message)
