"""Both ends of the window, with an unbounded queue between them as in Ray Serve."""

from __future__ import annotations

import asyncio
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.body_window import AppWindow, ProxyWindow, proxy_middlewares
from config import MediaLimits

PIECE = bytes(64 * 1024)
WINDOW = 1024**2


class Between:
    """What Serve's proxy does: takes the body as fast as it comes, into a queue."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self.num_waiting = self.most_waiting = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        queue: asyncio.Queue[Message] = asyncio.Queue()

        async def take() -> None:
            while True:
                message = await receive()
                self.num_waiting += len(message.get("body", b""))
                self.most_waiting = max(self.most_waiting, self.num_waiting)
                queue.put_nowait(message)
                if not message.get("more_body"):
                    return

        async def receive_late() -> Message:
            message = await queue.get()
            self.num_waiting -= len(message.get("body", b""))
            return message

        taking = asyncio.create_task(take())
        await self._app(scope, receive_late, send)
        taking.cancel()


async def upload(app: ASGIApp, num_pieces: int, is_windowed: bool = True) -> tuple[Between, list[Message], int]:
    between = Between(AppWindow(app, MediaLimits()))
    outer = ProxyWindow(between, WINDOW) if is_windowed else between
    sent: list[Message] = []
    num_taken = 0

    async def receive() -> Message:
        nonlocal num_taken
        await asyncio.sleep(0)
        num_taken += 1
        return {"type": "http.request", "body": PIECE, "more_body": num_taken < num_pieces}

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
    assert between.most_waiting <= WINDOW + len(PIECE)
    assert [message["type"] for message in sent] == ["http.response.start", "http.response.body"]
    assert sent[1]["body"] == str(320 * len(PIECE)).encode()
    assert sent[0]["headers"] == [], "the connection stays open after a whole body"


def test_without_a_window_the_whole_body_waits() -> None:
    """What the window is for; and an app that finds no window sends no words of it."""
    between, sent, _ = asyncio.run(upload(slow_reader, 320, is_windowed=False))
    assert between.most_waiting > 16 * WINDOW
    assert [message["type"] for message in sent] == ["http.response.start", "http.response.body"]


def test_an_answer_does_not_wait_for_the_body() -> None:
    _, sent, num_taken = asyncio.run(upload(refuses_at_once, 10_000))
    assert sent[0]["status"] == 429
    assert (b"connection", b"close") in sent[0]["headers"], "the rest of the body is not waited for"
    assert num_taken <= 2 * WINDOW // len(PIECE) + 1


def test_serve_takes_it() -> None:
    from ray.serve._private.http_util import validate_http_proxy_callback_return

    assert validate_http_proxy_callback_return(proxy_middlewares())
