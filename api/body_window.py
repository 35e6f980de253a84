"""Backpressure for uploads: bounds memory in Serve's proxy and in the replica.

Serve's proxy reads a request body as fast as it arrives and forwards it through unbounded queues in its own process and
in the replica; with a slow disk, 900 MB pile up there. With this flow control, the proxy reads at most one window ahead
of the app. uvicorn then stops reading, and TCP slows the caller down.

The app reports how much it has read in extra ASGI messages that travel with its response. This is an ASGI extension:
behind another server it is not in the scope, and the app sends none.

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
_REPORT_BYTES: Final = 512 * 1024  # report interval: a message per chunk would cost more than the chunk


def proxy_middlewares() -> list[Middleware]:
    """Return the middlewares of Serve's proxy (named by RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH)."""
    return [Middleware(ProxyWindow)]


class ProxyWindow:
    """ASGI middleware of the proxy: stops reading a body when the app is one window behind."""

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
                # The app stops reading once it responds. uvicorn drains the rest and notices a disconnect.
                window.give(self._window_bytes)
            await send(message)

        extensions = {**(scope.get("extensions") or {}), _EXTENSION: {}}
        await self._app({**scope, "extensions": extensions}, receive_ahead, send_on)


class AppWindow:
    """Outermost ASGI middleware of the app: reports how much of the body was read to `ProxyWindow`."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if _EXTENSION not in (scope.get("extensions") or {}):
            return await self._app(scope, receive, send)
        num_bytes, is_answered = 0, False

        async def receive_and_report() -> Message:
            nonlocal num_bytes
            message = await receive()
            num_bytes += len(message.get("body", b""))
            if num_bytes >= _REPORT_BYTES and not is_answered:
                await send({"type": _READ, "num_bytes": num_bytes})
                num_bytes = 0
            return message

        async def watched(message: Message) -> None:
            nonlocal is_answered
            is_answered = is_answered or message["type"] == "http.response.start"
            await send(message)

        await self._app(scope, receive_and_report, watched)


class _Window:
    """Number of bytes that may still be read."""

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
