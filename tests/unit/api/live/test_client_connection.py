"""Messages to the client of a live session whose task is cancelled meanwhile."""

from __future__ import annotations

import asyncio
from typing import cast

import pytest
from starlette.types import Message
from starlette.websockets import WebSocket

from api.live.client_connection import ClientConnection


class _SlowSocket:
    """Sends a message when it is released."""

    query_params: dict[str, str] = {}

    def __init__(self) -> None:
        self.is_released = asyncio.Event()

    async def send(self, message: Message) -> None:
        await self.is_released.wait()


async def test_send_text_cancelled_as_it_completes_raises() -> None:
    """`asyncio.wait_for` of Python 3.11 returns instead, and a session that was cancelled would go on."""
    socket = _SlowSocket()
    sending = asyncio.create_task(ClientConnection(cast(WebSocket, socket)).send_text("hello"))
    await asyncio.sleep(0.01)
    socket.is_released.set()
    sending.cancel()
    with pytest.raises(asyncio.CancelledError):
        await sending
