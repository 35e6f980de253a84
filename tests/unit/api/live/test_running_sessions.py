"""Clients that take over a session."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest
from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

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


async def test_a_client_that_arrives_while_the_session_ends_is_refused() -> None:
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


def test_a_close_that_makes_a_message_fail_ends_the_session() -> None:
    """The close code arrives after the failed message; the session does not go on without a client."""

    async def close() -> int:
        has_failed = asyncio.Event()

        async def receive() -> Any:
            await has_failed.wait()
            await asyncio.sleep(0.01)
            return {"type": "websocket.disconnect", "code": 1000}

        async def send(message: Any) -> None:
            has_failed.set()
            raise OSError("closing")

        socket = WebSocket({"type": "websocket", "query_string": b"", "headers": []}, receive, send)
        socket.client_state = socket.application_state = WebSocketState.CONNECTED
        connection = ClientConnection(socket)
        stream = cast(SessionStream, SimpleNamespace(outputs=SimpleNamespace(are_running=True)))
        session = RunningSession("s", "a", None, stream, connection, {})
        serving = asyncio.create_task(session.serve_clients(socket, asyncio.create_task(next_message(socket)), 600))
        await connection.send_text("{}")
        with pytest.raises(WebSocketDisconnect) as left:
            await asyncio.wait_for(serving, 20)
        return left.value.code

    assert asyncio.run(close()) == 1000


def test_next_message_of_dead_proxy_is_lost_client() -> None:
    async def receive() -> Any:
        raise OSError("The actor died unexpectedly.")

    socket = WebSocket({"type": "websocket", "query_string": b"", "headers": []}, receive, _ignore)
    with pytest.raises(WebSocketDisconnect) as left:
        asyncio.run(next_message(socket))
    assert left.value.code == 1006, "a session with outputs goes on"


async def _ignore(message: Any) -> None:
    pass
