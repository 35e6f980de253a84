"""Flow control between Serve's proxy and the app: bounds what waits in between, and closes slow connections.

Serve's proxy reads a request body as fast as it arrives, and reads a response as fast as the app writes it, through
unbounded queues in its own process and in the replica, and through Ray's object store. With a slow disk, 900 MB of an
upload pile up there; with a slow client, a whole download does. With this flow control, the proxy reads at most one
window ahead of the app, and the app writes at most one window ahead of the client. TCP slows down the rest.

Both ends report what they have read in extra ASGI messages, which travel with the request and its response. This is an
ASGI extension: behind another server it is not in the scope, and the app sends none.

    caller ── uvicorn ── ProxyWindow ══ Serve's queues ══ AppWindow ── app
                             ├─── response bytes that were sent ──►┤
                             ├◄── request bytes that were read ────┤
"""

from __future__ import annotations

import asyncio
import logging
import socket
import struct
import time
from dataclasses import dataclass
from typing import Final

from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from lipwright.config import MediaLimits


@dataclass
class MinRate:
    """Enforces a minimum rate, as a token bucket: waiting for the client spends time, transferred bytes earn it back.

    Over any period, the body must be transferred at `min_bytes_per_s`, apart from `max_pause_s` of pauses. Time that
    the service needs to read or write data does not count.

    Args:
        min_bytes_per_s: Minimum rate.
        max_pause_s: Capacity of the bucket, in seconds; it starts full.
    """

    min_bytes_per_s: float
    max_pause_s: float
    left_s: float = 0.0

    def __post_init__(self) -> None:
        self.left_s = self.max_pause_s

    def count(self, num_bytes: int, waited_s: float) -> None:
        """Count transferred bytes and the time spent waiting for the client to transfer them."""
        earned_s = num_bytes / self.min_bytes_per_s
        self.left_s = min(self.max_pause_s, self.left_s - waited_s + earned_s)


logger = logging.getLogger(__name__)

_EXTENSION: Final = "lipwright.body_window"
_READ: Final = "lipwright.body_window.read"
_SENT: Final = "lipwright.body_window.sent"
_REQUEST_BYTES: Final = 4 * 1024**2
_RESPONSE_BYTES: Final = 2 * 1024**2
_REPORT_BYTES: Final = 512 * 1024  # report interval: a message per chunk would cost more than the chunk
_SEND_BUFFER_BYTES: Final = 256 * 1024
_CLOSE_S: Final = 3.0  # for the client of a WebSocket to answer a close frame; uvicorn's default is 10 s
_RESET: Final = struct.pack("ii", 1, 0)  # `struct linger`: closing sends a reset
_DISCONNECT: Final[Message] = {"type": "http.disconnect"}


def proxy_middlewares() -> list[Middleware]:
    """Return the middlewares of Serve's proxy (named by RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH)."""
    return [Middleware(ProxyWindow)]


class ProxyWindow:
    """ASGI middleware of the proxy: stops reading a body when the app is one window behind."""

    def __init__(self, app: ASGIApp, window_bytes: int = _REQUEST_BYTES) -> None:
        self._app = app
        self._window_bytes = window_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] != "http":
            _bound_close(send)
            return await self._app(scope, receive, send)
        _bound_send_buffer(send)
        window, num_sent, is_complete = _Window(self._window_bytes), 0, not _has_body(scope)
        messages: asyncio.Queue[Message] = asyncio.Queue()

        async def read_ahead() -> None:
            nonlocal is_complete
            try:
                while True:
                    await window.wait()
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        return
                    is_complete = not message.get("more_body", False)
                    window.take(len(message.get("body", b"")))
                    messages.put_nowait(message)
            finally:
                messages.put_nowait(_DISCONNECT)

        async def send_on(message: Message) -> None:
            nonlocal num_sent
            if message["type"] == _READ:
                window.give(message["num_bytes"])
                return
            if message["type"] == "http.response.start":
                # The app stops reading once it responds. uvicorn drains the rest and notices a disconnect.
                window.give(self._window_bytes)
                if not is_complete:  # else a client that sends on would keep the connection, and its slot
                    MutableHeaders(scope=message)["connection"] = "close"
            await send(message)  # waits for the client
            num_sent += len(message.get("body", b""))
            if num_sent >= _REPORT_BYTES:
                messages.put_nowait({"type": _SENT, "num_bytes": num_sent})
                num_sent = 0

        extensions = {**(scope.get("extensions") or {}), _EXTENSION: {}}
        reading = asyncio.create_task(read_ahead())
        try:
            await self._app({**scope, "extensions": extensions}, messages.get, send_on)
        finally:
            reading.cancel()


def _bound_close(send: Send) -> None:
    """Have uvicorn close a WebSocket soon, and by a reset, after which HAProxy closes the client's connection, too.

    After an ordinary end, HAProxy 2.8 waits for the client for as long as it may be idle. uvicorn 0.54 has no settings
    for either.
    """
    protocol = getattr(send, "__self__", None)
    if protocol is not None and hasattr(protocol, "close_timeout"):
        protocol.close_timeout = _CLOSE_S
        protocol.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)


def _bound_send_buffer(send: Send) -> None:
    """Bound what the kernel keeps of a response for a slow client: by default, up to 4 MB more than the window."""
    transport = getattr(getattr(send, "__self__", None), "transport", None)
    if transport is not None:
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER_BYTES)


def _has_body(scope: Scope) -> bool:
    headers = Headers(scope=scope)
    return headers.get("content-length", "0") != "0" or "transfer-encoding" in headers


class AppWindow:
    """Outermost ASGI middleware of the app: stops writing a body when the client is one window behind.

    It also reports how much of the request body the app has read to `ProxyWindow`.

    Args:
        app: The app.
        limits: Minimum rate of downloads.
        window_bytes: Bytes of a response that may wait for the client.
    """

    def __init__(self, app: ASGIApp, limits: MediaLimits, window_bytes: int = _RESPONSE_BYTES) -> None:
        self._app = app
        self._limits = limits
        self._window_bytes = window_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection.

        Raises:
            ClientDisconnect: The client reads too slowly; its connection is closed.
        """
        if _EXTENSION not in (scope.get("extensions") or {}):
            return await self._app(scope, receive, send)
        rate = MinRate(self._limits.min_download_bytes_per_s, self._limits.max_download_pause_s)
        connection = _AppConnection(scope, receive, send, _Window(self._window_bytes), rate)
        reading = asyncio.create_task(connection.read())
        try:
            await self._app(scope, connection.receive, connection.send)
        finally:
            reading.cancel()


class _AppConnection:
    """The app's end of one connection."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, window: _Window, rate: MinRate) -> None:
        self._scope, self._receive, self._send = scope, receive, send
        self._window, self._rate = window, rate
        self._messages: asyncio.Queue[Message] = asyncio.Queue()
        self._has_news = asyncio.Event()
        self._num_read = self._num_taken = 0
        self._is_answered = self._is_over = False

    async def read(self) -> None:
        """Sort the messages of the proxy until the client disconnects or the proxy dies."""
        try:
            while (message := await self._receive())["type"] != "http.disconnect":
                if message["type"] == _SENT:
                    self._num_taken += message["num_bytes"]
                    self._window.give(message["num_bytes"])
                    self._has_news.set()
                else:
                    self._messages.put_nowait(message)
        except Exception as error:  # Serve cancels the call when the client disconnects, or the proxy has died
            logger.debug("%s: the connection to the proxy ended: %s", self._scope["path"], error)
        finally:
            self._is_over = True
            self._has_news.set()
            self._messages.put_nowait(_DISCONNECT)

    async def receive(self) -> Message:
        """Return the next message, and report how much of the request body was read."""
        message = await self._messages.get()
        if message["type"] == "http.disconnect":
            self._messages.put_nowait(message)  # every later call returns it, too
        self._num_read += len(message.get("body", b""))
        if self._num_read >= _REPORT_BYTES and not self._is_answered:
            await self._send({"type": _READ, "num_bytes": self._num_read})
            self._num_read = 0
        return message

    async def send(self, message: Message) -> None:
        """Send a message as soon as the client is at most one window behind.

        Raises:
            ClientDisconnect: The client is gone, or so slow that its connection is closed.
        """
        self._is_answered = self._is_answered or message["type"] == "http.response.start"
        num_bytes = len(message.get("body", b""))
        if num_bytes:
            await self._wait_for_client()
            self._window.take(num_bytes)
        await self._send(message)

    async def _wait_for_client(self) -> None:
        while not self._window.is_open:
            if self._is_over:
                raise ClientDisconnect
            self._count_taken(0.0)
            started = time.monotonic()
            self._has_news.clear()
            try:
                async with asyncio.timeout(max(0.0, self._rate.left_s)):
                    await self._has_news.wait()
            except TimeoutError:
                logger.warning(
                    "%s %s: connection closed: the client reads less than %d bytes per second "
                    "(limits.min_download_bytes_per_s)",
                    self._scope["method"],
                    self._scope["path"],
                    self._rate.min_bytes_per_s,
                )
                raise ClientDisconnect from None
            self._count_taken(time.monotonic() - started)

    def _count_taken(self, waited_s: float) -> None:
        self._rate.count(self._num_taken, waited_s)
        self._num_taken = 0


class _Window:
    """Number of bytes that may still be transferred."""

    def __init__(self, num_bytes: int) -> None:
        self._left = num_bytes
        self._open = asyncio.Event()
        self._open.set()

    @property
    def is_open(self) -> bool:
        return self._left > 0

    async def wait(self) -> None:
        await self._open.wait()

    def take(self, num_bytes: int) -> None:
        self._left -= num_bytes
        if not self.is_open:
            self._open.clear()

    def give(self, num_bytes: int) -> None:
        self._left += num_bytes
        if self.is_open:
            self._open.set()
