"""The WebSocket route of live sessions."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Final

from fastapi import APIRouter
from starlette.websockets import WebSocket, WebSocketDisconnect

from lipwright.api.browser_token import SUBPROTOCOL
from lipwright.api.live.client_connection import ClientConnection, next_message
from lipwright.api.live.protocol import (
    MessageLimits,
    SessionEndedError,
    SessionOptions,
    error_event,
    event,
    session_options,
)
from lipwright.api.live.running_sessions import RunningSession, RunningSessions
from lipwright.api.live.session_stream import SessionServices, SessionStream
from lipwright.api.live.session_usage import SessionUsage
from lipwright.api.live.tasks import cancel_all, counted_session, first_ended, keep_avatar_alive
from lipwright.config import LiveConfig
from lipwright.errors import LipwrightError, OptionError
from lipwright.jobs.model.browser_token import TokenGrant
from lipwright.jobs.model.compute import metered
from lipwright.jobs.ports import JobService
from lipwright.jobs.requests import Caller
from lipwright.net.push.destination import Destinations
from lipwright.rendering.live_chunk import LiveService
from lipwright.speech.service import TextToSpeech

PATH: Final = "/v1/live"
VIEW_PATH: Final = "/v1/live/view"
_OVERLOADED, _REFUSED, _DEFECT = 1013, 1008, 1011  # RFC 6455 and its registry


class LiveRoutes:
    """Live sessions and their viewers.

    `WS /v1/live?avatar_id=...` starts a session, with the options of `lipwright.api.live.protocol` and
    `receive_video=true`. `WS /v1/live?session_id=...` continues one that lost its client, and
    `WS /v1/live/view?avatar_id=...` shows one.
    """

    def __init__(
        self,
        live: LiveConfig,
        service: LiveService,
        speech: TextToSpeech,
        destinations: Destinations,
        jobs: JobService,
    ) -> None:
        self._live, self._service, self._speech, self._destinations = live, service, speech, destinations
        self._jobs = jobs
        self._running = RunningSessions()

    def router(self) -> APIRouter:
        """The routes."""
        router = APIRouter()
        router.add_api_websocket_route(PATH, self.session)
        router.add_api_websocket_route(VIEW_PATH, self.view)
        return router

    async def session(self, socket: WebSocket) -> None:
        """Serve the client of a session and tell it why the session ended."""
        await socket.accept(SUBPROTOCOL if SUBPROTOCOL in socket.scope["subprotocols"] else None)
        connection = ClientConnection(socket)
        grant: TokenGrant | None = socket.state.grant
        async with _errors_sent_to(connection):
            if grant is None and (session_id := socket.query_params.get("session_id")) is not None:
                await self._running.take_over(session_id, _caller(socket).owner, socket)
                return
            _avatar_id(socket)
            options, owner = session_options(socket.query_params, grant), _caller(socket).owner
            with metered() as meter:
                usage = SessionUsage(options.session_id, owner, meter)
                await self._service.admit(options.session_id, owner)
                try:
                    async with counted_session(self._jobs, options, self._live) as live:
                        await self._serve(socket, connection, options, live, usage)
                finally:
                    await self._service.leave(usage.total(is_over=True))

    async def view(self, socket: WebSocket) -> None:
        """Show the session of an avatar to a viewer."""
        await socket.accept()
        connection = ClientConnection(socket)
        async with _errors_sent_to(connection):
            session = self._running.of_avatar(_avatar_id(socket), _caller(socket).owner)
            await connection.send_text(event("session.state_updated", state="connected", **session.about))
            await first_ended(session.stream.viewers.show(connection), _until_disconnect(socket, self._live))
            raise SessionEndedError("The live session has ended.", 1000)

    async def _serve(
        self,
        socket: WebSocket,
        connection: ClientConnection,
        options: SessionOptions,
        live: LiveConfig,
        usage: SessionUsage,
    ) -> None:
        await connection.send_text(event("session.state_updated", state="connecting", session_id=options.session_id))
        first = asyncio.create_task(next_message(socket))
        preparing = asyncio.create_task(self._prepared(socket, options, connection, live))
        tasks: list[asyncio.Task[Any]] = [first, preparing]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            if not preparing.done():
                first.result()  # an early message, or the client has disconnected
            session = await preparing
            tasks.append(asyncio.create_task(keep_avatar_alive(self._service, session.avatar_id, session.owner)))
            rendering = asyncio.create_task(session.stream.run())
            usage.stream = session.stream
            tasks += [rendering, asyncio.create_task(usage.report(self._service))]
            with self._running.add(session):
                clients = session.serve_clients(socket, first, self._live.max_detached_s)
                await first_ended(rendering, clients, self._service.until_moved())
        finally:
            await cancel_all(tasks)

    async def _prepared(
        self, socket: WebSocket, options: SessionOptions, connection: ClientConnection, live: LiveConfig
    ) -> RunningSession:
        caller, avatar_id = _caller(socket), _avatar_id(socket)
        shown = await self._service.prepare(options.session_id, avatar_id, caller.owner, options.settings)
        info = shown.avatar.source.info
        about: dict[str, object] = {
            "session_id": options.session_id,
            "width": info.width,
            "height": info.height,
            "fps": float(info.fps),
            "sample_rate": options.sample_rate,
            "max_buffered_seconds": self._live.max_buffered_seconds,
            "max_ahead_seconds": self._live.max_ahead_seconds,
            "idle_timeout_s": self._live.idle_timeout_s,
        }
        if shown.graph is not None:
            about["actions"] = shown.graph.action_names
        await connection.send_text(event("session.state_updated", state="connected", **about))
        synthesize = partial(self._speech.synthesize, owner=caller.owner, purpose="live")
        services = SessionServices(self._service, synthesize, self._destinations)
        stream = SessionStream(options, shown, live, services, connection)
        return RunningSession(options.session_id, avatar_id, caller.owner, stream, connection, about)


@asynccontextmanager
async def _errors_sent_to(connection: ClientConnection) -> AsyncIterator[None]:
    """Tell the client why the block ended with an error, and close its socket."""
    try:
        yield
    except WebSocketDisconnect:
        return  # the client disconnected
    except SessionEndedError as error:
        await connection.close(error.close_code, event("session.ended", code=error.code, message=str(error)))
    except LipwrightError as error:
        await connection.close(_close_code(error), error_event(error))
    except BaseException:
        await connection.close(
            _DEFECT,
            event("error", code=LipwrightError.code, message="Internal error. See the service log for details."),
        )
        raise


async def _until_disconnect(socket: WebSocket, live: LiveConfig) -> None:
    """Ignore what a viewer sends; WebSocketDisconnect when it leaves."""
    limits = MessageLimits(live)
    while True:
        message = await next_message(socket)
        limits.count(len(message.get("text") or message.get("bytes") or ""))


def _caller(socket: WebSocket) -> Caller:
    caller: Caller = socket.state.caller
    return caller


def _avatar_id(socket: WebSocket) -> str:
    if not (avatar_id := socket.query_params.get("avatar_id")):
        raise OptionError("avatar_id is required. Create an avatar with POST /v1/avatars.")
    return avatar_id


def _close_code(error: LipwrightError) -> int:
    if error.retryable:
        return _OVERLOADED
    return _REFUSED if error.status_code < 500 else _DEFECT
