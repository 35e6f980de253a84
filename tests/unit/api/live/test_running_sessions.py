"""Clients that take over a session."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest
from starlette.websockets import WebSocket, WebSocketDisconnect

from api.live.client_connection import ClientConnection, next_message
from api.live.running_sessions import RunningSession, RunningSessions
from api.live.session_stream import SessionStream
from errors import NotFoundError


def _socket() -> WebSocket:
    async def receive() -> Any:
        await asyncio.Event().wait()

    async def send(message: Any) -> None:
        pass

    return WebSocket({"type": "websocket", "query_string": b"", "headers": []}, receive, send)


def test_a_client_that_arrives_while_the_session_ends_is_refused() -> None:
    async def arrive() -> None:
        connection = ClientConnection(_socket())
        connection.detach()
        stream = cast(SessionStream, None)  # a session that ends asks its stream for nothing
        session, sessions = RunningSession("s", "a", None, stream, connection, {}), RunningSessions()
        with sessions.add(session):
            taking_over = asyncio.create_task(sessions.take_over("s", None, _socket()))
            await asyncio.sleep(0)
            assert session.clients.full()
        with pytest.raises(NotFoundError):
            await asyncio.wait_for(taking_over, 20)

    asyncio.run(arrive())


def test_next_message_of_dead_proxy_is_lost_client() -> None:
    async def receive() -> Any:
        raise OSError("The actor died unexpectedly.")

    socket = WebSocket({"type": "websocket", "query_string": b"", "headers": []}, receive, _ignore)
    with pytest.raises(WebSocketDisconnect) as left:
        asyncio.run(next_message(socket))
    assert left.value.code == 1006, "a session with outputs goes on"


async def _ignore(message: Any) -> None:
    pass
