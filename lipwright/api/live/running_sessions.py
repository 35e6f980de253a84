"""The live sessions of one Ingress replica, for viewers and for clients that come back."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from starlette.websockets import WebSocket, WebSocketDisconnect

from lipwright.api.live.client_connection import LOST, ClientConnection, next_message
from lipwright.api.live.protocol import event
from lipwright.api.live.session_stream import SessionStream
from lipwright.api.live.tasks import first_ended
from lipwright.errors import BusyError, NotFoundError, StateError

logger = logging.getLogger(__name__)

_RETRY_S: Final = 1.0
# RFC 6455: closed on purpose. Anything else, such as a connection that broke, is a lost client.
_CLEAN_CODES: Final = (1000, 1001)
# While a client closes its socket, messages to it fail before its close code arrives.
_CLOSE_CODE_S: Final = 1.0


@dataclass
class Client:
    """A client that takes over a session.

    Attributes:
        socket: Its WebSocket.
        is_over: Set when the session no longer uses the socket.
        is_served: Whether the session has used it.
    """

    socket: WebSocket
    is_over: asyncio.Event = field(default_factory=asyncio.Event)
    is_served: bool = False


@dataclass
class RunningSession:
    """One session.

    Attributes:
        session_id: ID of the session.
        avatar_id: The avatar that is shown.
        owner: The caller that started it; None without API keys.
        stream: The session.
        connection: The client, which may be lost.
        about: Fields of the event that it is connected.
        clients: Clients that take over.
    """

    session_id: str
    avatar_id: str
    owner: str | None
    stream: SessionStream
    connection: ClientConnection
    about: Mapping[str, object]
    clients: asyncio.Queue[Client] = field(default_factory=lambda: asyncio.Queue(1))

    async def serve_clients(
        self, socket: WebSocket, first: asyncio.Task[dict[str, Any]], max_detached_s: float
    ) -> None:
        """Receive the messages of the client, and of those that take over from it.

        Args:
            socket: WebSocket of the first client.
            first: Its first message.
            max_detached_s: How long a session with outputs goes on without a client.

        Raises:
            WebSocketDisconnect: The client has left, or nobody took over from a lost one.
        """
        left = await self._served(socket, first)
        while left.code not in _CLEAN_CODES and self.stream.outputs.are_running:
            logger.info("live session %s: its client is lost; it goes on for %g s", self.session_id, max_detached_s)
            try:
                async with asyncio.timeout(max_detached_s):
                    client = await self.clients.get()
            except TimeoutError:
                break
            client.is_served = True
            self.connection.attach(client.socket, client.is_over)
            about = {**self.about, **self.stream.progress}
            await self.connection.send_text(event("session.state_updated", state="connected", **about))
            if self.stream.is_recovering:
                await self.connection.send_text(event("session.state_updated", state="recovering"))
            left = await self._served(client.socket, asyncio.create_task(next_message(client.socket)))
        raise left

    def release_clients(self) -> None:
        """End the wait of clients that the session did not serve."""
        while not self.clients.empty():
            self.clients.get_nowait().is_over.set()

    async def _served(self, socket: WebSocket, first: asyncio.Task[dict[str, Any]]) -> WebSocketDisconnect:
        """Receive the messages of one client, and return how it left."""
        try:
            await first_ended(self._take(socket, first), self._until_lost())
        except WebSocketDisconnect as left:
            self.connection.detach()
            return left
        return WebSocketDisconnect(LOST)

    async def _until_lost(self) -> None:
        await self.connection.until_lost()
        await asyncio.sleep(_CLOSE_CODE_S)

    async def _take(self, socket: WebSocket, first: asyncio.Task[dict[str, Any]]) -> None:
        message = await first
        while True:
            if (text := message.get("text")) is not None:
                await self.stream.take_text(str(text))
            elif isinstance(data := message.get("bytes"), bytes):
                await self.stream.take_bytes(data)
            message = await next_message(socket)


class RunningSessions:
    """Finds sessions."""

    def __init__(self) -> None:
        self._sessions: dict[str, RunningSession] = {}

    @contextmanager
    def add(self, session: RunningSession) -> Iterator[None]:
        """Let a session be found during the block."""
        self._sessions[session.session_id] = session
        try:
            yield
        finally:
            del self._sessions[session.session_id]
            session.release_clients()

    async def take_over(self, session_id: str, owner: str | None, socket: WebSocket) -> None:
        """Make a WebSocket the client of a session, and wait until the session no longer uses it.

        Raises:
            NotFoundError: There is no such session on this replica, or it has just ended.
            StateError: It has a client.
        """
        session = self._sessions.get(session_id)
        missing = NotFoundError(f"Live session {session_id[:40]!r} does not exist or has ended.")
        if session is None or session.owner != owner:
            raise missing
        if session.connection.is_attached or session.clients.full():
            raise StateError("The live session already has a client.")
        client = Client(socket)
        session.clients.put_nowait(client)
        await client.is_over.wait()
        if not client.is_served:
            raise missing

    def of_avatar(self, avatar_id: str, owner: str | None) -> RunningSession:
        """Return the latest session in which an avatar of this caller is live.

        Raises:
            BusyError: There is none on this replica; there may be one later, or on another replica.
        """
        found = [each for each in self._sessions.values() if (each.avatar_id, each.owner) == (avatar_id, owner)]
        if not found:
            raise BusyError("This avatar is not live.", _RETRY_S)
        return found[-1]
