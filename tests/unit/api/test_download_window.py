"""Downloads through both ends of the window, with unbounded queues between them as in Ray Serve."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any

import pytest
from starlette.responses import StreamingResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api import body_window
from api.body_window import AppWindow, ProxyWindow
from api.problem import UnexpectedErrors
from config import MediaLimits
from tests.unit.cluster.virtual_time import VirtualTimeLoop

PIECE = bytes(256 * 1024)
WINDOW = 1024**2
MIN_BYTES_PER_S = 1024**2
MAX_PAUSE_S = 4.0
REPORT_BYTES = 512 * 1024
Pace = Callable[[], Awaitable[None]]


class Between:
    """What Serve does: takes the response as fast as the app writes it, into a queue."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self.num_waiting = self.most_waiting = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        queue: asyncio.Queue[Message | None] = asyncio.Queue()

        async def send_late(message: Message) -> None:
            self.num_waiting += len(message.get("body", b""))
            self.most_waiting = max(self.most_waiting, self.num_waiting)
            queue.put_nowait(message)

        async def run() -> None:
            await self._app(scope, receive, send_late)
            queue.put_nowait(None)

        running = asyncio.create_task(run())
        while (message := await queue.get()) is not None:
            await send(message)
            self.num_waiting -= len(message.get("body", b""))
        await running


class Client:
    """Reads a response at its own pace; is gone after `num_pieces`."""

    def __init__(self, pace: Pace, num_pieces: int = 10**6) -> None:
        self._pace = pace
        self._num_pieces = num_pieces
        self._is_gone = asyncio.Event()
        self.num_bytes = 0
        self.is_complete = False
        self._has_asked = False

    async def receive(self) -> Message:
        if not self._has_asked:
            self._has_asked = True
            return {"type": "http.request", "body": b"", "more_body": False}
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


def test_what_a_client_has_not_read_does_not_pile_up(download: Callable[[ASGIApp, Client], Between]) -> None:
    client = Client(every(0.2))
    between = download(file_of(200), client)
    assert client.is_complete and client.num_bytes == 200 * len(PIECE)
    assert between.most_waiting <= WINDOW + REPORT_BYTES


def test_a_client_below_the_minimum_rate_is_cut_off(
    download: Callable[[ASGIApp, Client], Between], caplog: pytest.LogCaptureFixture
) -> None:
    client = Client(every(1.0))  # a quarter of the rate
    download(file_of(200), client)
    assert not client.is_complete
    assert 0 < client.num_bytes < 40 * len(PIECE)
    assert "min_download_bytes_per_s" in caplog.text


def test_one_that_pauses_is_not(download: Callable[[ASGIApp, Client], Between]) -> None:
    num_read = 0

    async def pause_now_and_then() -> None:
        nonlocal num_read
        num_read += 1
        await asyncio.sleep(MAX_PAUSE_S * 0.7 if num_read % 50 == 0 else 0.1)

    client = Client(pause_now_and_then)
    download(file_of(200), client)
    assert client.is_complete


def test_pieces_of_several_windows_at_the_minimum_rate(download: Callable[[ASGIApp, Client], Between]) -> None:
    large = bytes(4 * WINDOW)
    client = Client(every(3.9))
    between = download(file_of(20, large), client)
    assert client.is_complete and client.num_bytes == 20 * len(large)
    assert between.most_waiting <= 2 * len(large)


def test_a_client_that_leaves_ends_the_response(download: Callable[[ASGIApp, Client], Between]) -> None:
    client = Client(every(0.1), num_pieces=5)
    between = download(file_of(10**6), client)
    assert not client.is_complete
    assert between.most_waiting <= WINDOW + REPORT_BYTES
