"""The front before Serve's middleware: refused bodies and sockets that go on do not keep their slots."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send

from api.body_window import ProxyWindow
from launch.front_config import FrontLimits
from tests.ports import quiet_port
from tests.unit.api_server import running
from tests.unit.launch.fronted_api import needs_haproxy, running_front
from tests.waiting import wait_until

pytestmark = needs_haproxy
ENDED_S = 20.0
"""Half a second for a body and five for a socket; otherwise the first would stay forever, the second for 70 s."""
_HANDSHAKE = (
    b"GET /v1/live HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)


async def refuse(scope: Scope, receive: Receive, send: Send) -> None:
    await receive()
    if scope["type"] == "websocket":
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.close", "code": 1008})
        return
    await PlainTextResponse("no", 401)(scope, receive, send)


@contextmanager
def fronted(**limits: Any) -> Iterator[int]:
    serve_port = quiet_port()
    with running(ProxyWindow(refuse), serve_port), running_front(serve_port, limits=FrontLimits(**limits)) as (_, port):
        yield port


def test_front_refused_body_ends_its_connection() -> None:
    with fronted() as port, socket.create_connection(("127.0.0.1", port), timeout=30) as line:
        line.sendall(b"POST /v1/jobs HTTP/1.1\r\nHost: a\r\nContent-Length: 200000\r\n\r\na")
        answer = line.recv(4096)
        assert answer.startswith(b"HTTP/1.1 401 ")
        started = time.monotonic()
        with suppress(ConnectionError):
            while True:
                line.sendall(b"a")
                time.sleep(0.1)
                assert time.monotonic() - started < ENDED_S


def test_front_refused_silent_sockets_free_their_slots() -> None:
    with fronted(max_live=3) as port, ExitStack() as lines:
        assert [_opened(port, lines) for _ in range(4)] == [b"101", b"101", b"101", b"503"]
        wait_until(lambda: _opened(port, lines) != b"503", ENDED_S, 0.2)


def _opened(port: int, lines: ExitStack) -> bytes:
    """Open a WebSocket that stays silent; returns the status of the answer."""
    line = lines.enter_context(socket.create_connection(("127.0.0.1", port), timeout=30))
    line.sendall(_HANDSHAKE)
    return line.recv(4096)[9:12]
