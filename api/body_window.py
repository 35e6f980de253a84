"""Uploads that wait for whoever reads them: bounded memory in Serve's proxy and in the replica.

Serve's proxy takes a body from its uvicorn as fast as it comes and passes it on through queues without a bound, in its
own process and in the replica's: 900 MB lie there if the disk is slow. Here the proxy takes no more than a window ahead
of what the app has read, so that uvicorn stops reading, TCP slows the caller down, and the queues stay short.

The app says what it has read in messages of its own on the way that its answer takes. They are an ASGI extension: an
app behind another server does not find it in its scope, and sends none.

    caller ── uvicorn ── ProxyWindow ── Serve's queues ── AppWindow ── app
                             └────────── bytes read ───────────┘
"""

from __future__ import annotations

import asyncio
from typing import Final

from starlette.middleware import Middleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_EXTENSION: Final = "lipwright.body_window"
_READ: Final = "lipwright.body_window.read"
_WINDOW_BYTES: Final = 4 * 1024**2
_WORD_BYTES: Final = 512 * 1024  # read before it is said: a message for each piece would cost more than the piece


def proxy_middlewares() -> list[Middleware]:
    """What Serve's proxy puts before itself (RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH names this function)."""
    return [Middleware(ProxyWindow)]


class ProxyWindow:
    """ASGI middleware of the proxy: holds a body back while the app has a window of it to read."""

    def __init__(self, app: ASGIApp, window_bytes: int = _WINDOW_BYTES) -> None:
        self._app = app
        self._window_bytes = window_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        window = _Window(self._window_bytes)

        async def receive_ahead() -> Message:
            await window.wait()
            message = await receive()
            window.take(len(message.get("body", b"")))
            return message

        async def send_on(message: Message) -> None:
            if message["type"] == _READ:
                window.give(message["num_bytes"])
                return
            if message["type"] == "http.response.start":
                # Whoever answers reads no more. The rest is drained by uvicorn, and a caller that goes is noticed.
                window.give(self._window_bytes)
            await send(message)

        extensions = {**(scope.get("extensions") or {}), _EXTENSION: {}}
        await self._app({**scope, "extensions": extensions}, receive_ahead, send_on)


class AppWindow:
    """ASGI middleware of the app, the outermost: says how much of the body was read, where `ProxyWindow` listens."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if _EXTENSION not in (scope.get("extensions") or {}):
            return await self._app(scope, receive, send)
        num_bytes, is_answered = 0, False

        async def receive_and_say() -> Message:
            nonlocal num_bytes
            message = await receive()
            num_bytes += len(message.get("body", b""))
            if num_bytes >= _WORD_BYTES and not is_answered:
                await send({"type": _READ, "num_bytes": num_bytes})
                num_bytes = 0
            return message

        async def watched(message: Message) -> None:
            nonlocal is_answered
            is_answered = is_answered or message["type"] == "http.response.start"
            await send(message)

        await self._app(scope, receive_and_say, watched)


class _Window:
    """Bytes that may still be taken."""

    def __init__(self, num_bytes: int) -> None:
        self._left = num_bytes
        self._open = asyncio.Event()
        self._open.set()

    async def wait(self) -> None:
        await self._open.wait()

    def take(self, num_bytes: int) -> None:
        self._left -= num_bytes
        if self._left <= 0:
            self._open.clear()

    def give(self, num_bytes: int) -> None:
        self._left += num_bytes
        if self._left > 0:
            self._open.set()
