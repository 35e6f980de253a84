"""Both ends of the window, with unbounded queues between them as in Ray Serve."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any

import pytest
from starlette.responses import StreamingResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from lipwright.api import body_window
from lipwright.api.body_window import AppWindow, ProxyWindow, proxy_middlewares
from lipwright.api.problem import UnexpectedErrors
from lipwright.config import MediaLimits
from tests.unit.cluster.virtual_time import VirtualTimeLoop

WINDOW = 1024**2
UPLOAD_PIECE = bytes(64 * 1024)
PIECE = bytes(256 * 1024)
MIN_BYTES_PER_S = 1024**2
MAX_PAUSE_S = 4.0
REPORT_BYTES = 512 * 1024
Pace = Callable[[], Awaitable[None]]


class Between:
    """What Serve does: takes request and response as fast as they come, into queues."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self.num_waiting = self.most_waiting = 0

    def _count(self, message: Message) -> Message:
        self.num_waiting += len(message.get("body", b""))
        self.most_waiting = max(self.most_waiting, self.num_waiting)
        return message

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        sent: asyncio.Queue[Message] = asyncio.Queue()
        written: asyncio.Queue[Message | None] = asyncio.Queue()

        async def take() -> None:
            message: Message = {"more_body": True}
            while message.get("more_body"):
                message = self._count(await receive())
                sent.put_nowait(message)

        async def receive_late() -> Message:
            if sent.empty() and taking.done():
                return await receive()  # whether the client is gone
            message = await sent.get()
            self.num_waiting -= len(message.get("body", b""))
            return message

        async def send_late(message: Message) -> None:
            written.put_nowait(self._count(message))

        async def run() -> None:
            await self._app(scope, receive_late, send_late)
            written.put_nowait(None)

        taking, running = asyncio.create_task(take()), asyncio.create_task(run())
        while (message := await written.get()) is not None:
            await send(message)
            self.num_waiting -= len(message.get("body", b""))
        taking.cancel()
        await running


async def upload(app: ASGIApp, num_pieces: int, is_windowed: bool = True) -> tuple[Between, list[Message], int]:
    between = Between(AppWindow(app, MediaLimits()))
    outer = ProxyWindow(between, WINDOW) if is_windowed else between
    sent: list[Message] = []
    num_taken = 0

    async def receive() -> Message:
        nonlocal num_taken
        await asyncio.sleep(0)
        num_taken += 1
        return {"type": "http.request", "body": UPLOAD_PIECE, "more_body": num_taken < num_pieces}

    async def send(message: Message) -> None:
        sent.append(message)

    scope: dict[str, Any] = {"type": "http", "method": "POST", "path": "/", "headers": [(b"content-length", b"9")]}
    await asyncio.wait_for(outer(scope, receive, send), 20)
    return between, sent, num_taken


async def slow_reader(scope: Scope, receive: Receive, send: Send) -> None:
    num_bytes = 0
    while True:
        message = await receive()
        num_bytes += len(message["body"])
        for _ in range(20):  # turns of the loop, in each of which a piece may come
            await asyncio.sleep(0)
        if not message["more_body"]:
            break
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": str(num_bytes).encode()})


async def refuses_at_once(scope: Scope, receive: Receive, send: Send) -> None:
    await receive()
    await send({"type": "http.response.start", "status": 429, "headers": []})
    await asyncio.sleep(0.05)
    await send({"type": "http.response.body", "body": b""})


def test_a_slow_reader_holds_its_caller_back() -> None:
    between, sent, _ = asyncio.run(upload(slow_reader, 320))
    assert between.most_waiting <= WINDOW + len(UPLOAD_PIECE)
    assert [message["type"] for message in sent] == ["http.response.start", "http.response.body"]
    assert sent[1]["body"] == str(320 * len(UPLOAD_PIECE)).encode()
    assert sent[0]["headers"] == [], "the connection stays open after a whole body"
    without, sent, _ = asyncio.run(upload(slow_reader, 320, is_windowed=False))
    assert without.most_waiting > 16 * WINDOW
    assert len(sent) == 2, "an app that finds no window sends no words of it"


def test_an_answer_does_not_wait_for_the_body() -> None:
    _, sent, num_taken = asyncio.run(upload(refuses_at_once, 10_000))
    assert sent[0]["status"] == 429
    assert (b"connection", b"close") in sent[0]["headers"], "the rest of the body is not waited for"
    assert num_taken <= 2 * WINDOW // len(UPLOAD_PIECE) + 1


def test_serve_takes_it() -> None:
    from ray.serve._private.http_util import validate_http_proxy_callback_return

    assert validate_http_proxy_callback_return(proxy_middlewares())


class Client:
    """Reads a response at its own pace; is gone after `num_pieces`."""

    def __init__(self, pace: Pace, num_pieces: int = 10**6) -> None:
        self._pace = pace
        self._num_pieces = num_pieces
        self._is_gone = asyncio.Event()
        self._requests: list[Message] = [{"type": "http.request", "body": b"", "more_body": False}]
        self.num_bytes = 0
        self.is_complete = False

    async def receive(self) -> Message:
        if self._requests:
            return self._requests.pop()
        await self._is_gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        if self._is_gone.is_set():
            return  # as uvicorn does
        if message.get("body"):
            await self._pace()
            self.num_bytes += len(message["body"])
            self._num_pieces -= 1
            if self._num_pieces <= 0:
                self._is_gone.set()
        self.is_complete = message["type"] == "http.response.body" and not message.get("more_body")


def file_of(num_pieces: int, piece: bytes = PIECE) -> ASGIApp:
    async def pieces() -> Any:
        for _ in range(num_pieces):
            yield piece

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await StreamingResponse(pieces())(scope, receive, send)

    return app


Download = Callable[[ASGIApp, Client], Between]


@pytest.fixture
def download(monkeypatch: pytest.MonkeyPatch) -> Callable[[ASGIApp, Client], Between]:
    """Download to the end on a simulated clock: time that a busy machine takes does not count."""
    limits = MediaLimits(min_download_bytes_per_s=MIN_BYTES_PER_S, max_download_pause_s=MAX_PAUSE_S)

    def run(app: ASGIApp, client: Client) -> Between:
        between = Between(AppWindow(UnexpectedErrors(app, lambda problem: problem), limits, WINDOW))
        scope: dict[str, Any] = {"type": "http", "method": "GET", "path": "/", "headers": []}
        scope["asgi"] = {"spec_version": "2.3"}
        with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
            monkeypatch.setattr(body_window, "time", SimpleNamespace(monotonic=runner.get_loop().time))
            runner.run(asyncio.wait_for(ProxyWindow(between)(scope, client.receive, client.send), 10_000))
        return between

    return run


def every(seconds: float) -> Pace:
    return lambda: asyncio.sleep(seconds)


@pytest.mark.parametrize(
    ("piece", "num_pieces", "pause_s", "max_waiting"),
    [(PIECE, 200, 0.2, WINDOW + REPORT_BYTES), (bytes(4 * WINDOW), 20, 3.9, 8 * WINDOW)],
    ids=["pieces of a window", "pieces of several windows"],
)
def test_what_a_client_has_not_read_does_not_pile_up(
    download: Download, piece: bytes, num_pieces: int, pause_s: float, max_waiting: int
) -> None:
    client = Client(every(pause_s))
    between = download(file_of(num_pieces, piece), client)
    assert client.is_complete and client.num_bytes == num_pieces * len(piece)
    assert between.most_waiting <= max_waiting


def test_a_client_below_the_minimum_rate_is_cut_off(download: Download, caplog: pytest.LogCaptureFixture) -> None:
    client = Client(every(1.0))  # a quarter of the rate
    download(file_of(200), client)
    assert not client.is_complete
    assert 0 < client.num_bytes < 40 * len(PIECE)
    assert "min_download_bytes_per_s" in caplog.text


def test_one_that_pauses_is_not(download: Download) -> None:
    num_read = 0

    async def pause_now_and_then() -> None:
        nonlocal num_read
        num_read += 1
        await asyncio.sleep(MAX_PAUSE_S * 0.7 if num_read % 50 == 0 else 0.1)

    client = Client(pause_now_and_then)
    download(file_of(200), client)
    assert client.is_complete


def test_a_client_that_leaves_ends_the_response(download: Download) -> None:
    client = Client(every(0.1), num_pieces=5)
    between = download(file_of(10**6), client)
    assert not client.is_complete
    assert between.most_waiting <= WINDOW + REPORT_BYTES
