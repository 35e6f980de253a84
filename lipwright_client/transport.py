"""Sends calls and reads streams, with retries; over asynchronous or over blocking I/O."""

from __future__ import annotations

import contextlib
import inspect
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, AbstractContextManager, aclosing, asynccontextmanager, closing
from dataclasses import replace
from typing import Any, Protocol, TypeVar

import anyio
import anyio.to_thread
import httpx
import websockets.asyncio.client
import websockets.sync.client

from lipwright_client.blocking import asynchronous
from lipwright_client.calls import Call
from lipwright_client.files import Writable
from lipwright_client.records import Job
from lipwright_client.retry import Retries, RetryPolicy, checked
from lipwright_client.streams import ResumableStream

T = TypeVar("T")
_CANCEL_S = 5.0  # how long a cancelled coroutine waits for its job to be cancelled


def _stored_file(answer: httpx.Response) -> httpx.Request | None:
    """Return the request for a file in a bucket to which the service redirects; None for other answers."""
    return answer.next_request if answer.status_code == 307 and answer.request.method == "GET" else None


class Socket(Protocol):
    """A connected WebSocket."""

    async def recv(self) -> str | bytes:
        """Receive a message."""

    async def send(self, message: str | bytes) -> None:
        """Send a message."""


class AsyncIO:
    """I/O under asyncio and trio; files are read and written in threads."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self.http = http

    async def send(self, request: httpx.Request, has_files: bool) -> httpx.Response:
        """Send a request and receive the whole response."""
        if has_files:
            assert isinstance(request.stream, httpx.SyncByteStream)
            request.stream = _ReadInThreads(request.stream)
        answer = await self.http.send(request)
        target = _stored_file(answer)
        return answer if target is None else await self.http.send(target)

    @asynccontextmanager
    async def opened(self, request: httpx.Request) -> AsyncIterator[tuple[httpx.Response, AsyncIterator[bytes]]]:
        """Send a request; yield the response and the chunks of its body. The body of an error is already received."""
        answer = await self.http.send(request, stream=True)
        if (target := _stored_file(answer)) is not None:
            await answer.aclose()
            answer = await self.http.send(target, stream=True)
        async with aclosing(answer):
            if not answer.is_success:
                await answer.aread()
            yield answer, answer.aiter_bytes()

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        await anyio.sleep(seconds)

    async def write(self, file: Writable, piece: bytes) -> None:
        """Write to a file."""
        await anyio.to_thread.run_sync(file.write, piece)

    async def notify(self, listener: Callable[[Job], object], job: Job) -> None:
        """Call a function or coroutine function."""
        if inspect.isawaitable(said := listener(job)):
            await said

    def shielded(self) -> AbstractContextManager[object]:
        """Return a context in which calls still work after a cancellation, for a limited time."""
        return anyio.move_on_after(_CANCEL_S, shield=True)

    def connect(self, url: str, **options: Any) -> AbstractAsyncContextManager[Socket]:
        """Open a WebSocket with the options of `websockets`."""
        return websockets.asyncio.client.connect(url, **options)

    async def close(self) -> None:
        """Close all connections."""
        await self.http.aclose()


class BlockingIO:
    """The same operations, but they block instead of suspending; see `blocking`."""

    def __init__(self, http: httpx.Client) -> None:
        self.http = http

    async def send(self, request: httpx.Request, has_files: bool) -> httpx.Response:
        """Send a request and receive the whole response."""
        answer = self.http.send(request)
        target = _stored_file(answer)
        return answer if target is None else self.http.send(target)

    @asynccontextmanager
    async def opened(self, request: httpx.Request) -> AsyncIterator[tuple[httpx.Response, AsyncIterator[bytes]]]:
        """Send a request; yield the response and the chunks of its body. The body of an error is already received."""
        answer = self.http.send(request, stream=True)
        if (target := _stored_file(answer)) is not None:
            answer.close()
            answer = self.http.send(target, stream=True)
        with closing(answer):
            if not answer.is_success:
                answer.read()
            yield answer, asynchronous(answer.iter_bytes())

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        time.sleep(seconds)  # noqa: ASYNC251 - there is no event loop to stall

    async def write(self, file: Writable, piece: bytes) -> None:
        """Write to a file."""
        file.write(piece)

    async def notify(self, listener: Callable[[Job], object], job: Job) -> None:
        """Call a function."""
        listener(job)

    def shielded(self) -> AbstractContextManager[object]:
        """Return a context without effect, because nothing is cancelled."""
        return contextlib.nullcontext()

    @asynccontextmanager
    async def connect(self, url: str, **options: Any) -> AsyncIterator[Socket]:
        """Open a WebSocket with the options of `websockets`."""
        with websockets.sync.client.connect(url, **options) as socket:
            yield _BlockingSocket(socket)

    async def close(self) -> None:
        """Close all connections."""
        self.http.close()


class Transport:
    """Sends calls, reads streams, and waits between retries."""

    def __init__(self, io: AsyncIO | BlockingIO, retry: RetryPolicy) -> None:
        self.io, self.retry = io, retry

    async def run(self, call: Call[T], max_wait_s: float = float("inf")) -> T:
        """Send a call, with retries, and return its result. While the service is full, waits at most `max_wait_s`."""
        max_wait_s = min(max_wait_s, self.retry.max_backpressure_wait_s)
        retries = Retries(call, replace(self.retry, max_backpressure_wait_s=max_wait_s))
        while True:
            outcome = await self._try(call)
            pause_s = retries.pause_after(outcome)
            if pause_s is None:
                break
            await self.io.sleep(pause_s)
        assert isinstance(outcome, httpx.Response)
        return call.read(outcome if retries.is_done(outcome) else checked(outcome))

    async def read(self, stream: ResumableStream[T]) -> AsyncGenerator[T, None]:
        """Yield the items of a stream, reconnecting as needed."""
        while not stream.is_over:
            try:
                async with aclosing(self._connection(stream)) as items:
                    async for item in items:
                        yield item
            except httpx.RequestError as error:
                stream.on_error(error)
            if not stream.is_over:
                await self.io.sleep(stream.pause_s)

    async def _try(self, call: Call[Any]) -> httpx.Response | httpx.RequestError:
        http = self.io.http
        with call.body.opened() as body:
            options = {"params": call.params, "headers": call.headers, "timeout": call.timeout(http.timeout), **body}
            request = http.build_request(call.method, call.path, **options)
            try:
                return await self.io.send(request, has_files=bool(call.body.uploads))
            except httpx.RequestError as error:
                return error

    async def _connection(self, stream: ResumableStream[T]) -> AsyncGenerator[T, None]:
        async with self.io.opened(self.io.http.build_request(**stream.request())) as (answer, pieces):
            if not stream.on_response(answer):
                return
            async for piece in pieces:
                for item in stream.feed(piece):
                    yield item
                if stream.is_over:
                    return
        stream.on_end()


class _BlockingSocket:
    def __init__(self, socket: websockets.sync.client.ClientConnection) -> None:
        self._socket = socket

    async def recv(self) -> str | bytes:
        return self._socket.recv()

    async def send(self, message: str | bytes) -> None:
        self._socket.send(message)


class _ReadInThreads(httpx.AsyncByteStream):
    """A request body whose files are read in a thread."""

    def __init__(self, body: httpx.SyncByteStream) -> None:
        self._body = body

    async def __aiter__(self) -> AsyncIterator[bytes]:
        pieces: Iterator[bytes] = iter(self._body)
        while (piece := await anyio.to_thread.run_sync(next, pieces, None)) is not None:
            yield piece
