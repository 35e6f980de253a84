"""The front before Serve's middleware: a refused body that keeps coming does not keep its slot."""

from __future__ import annotations

import socket
import threading
import time
from contextlib import suppress

import pytest
import uvicorn
from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send

from api.body_window import ProxyWindow
from launch.front_proxy import FrontProxy, haproxy_binary
from tests.ports import quiet_port

PROGRAM = haproxy_binary()
pytestmark = pytest.mark.skipif(PROGRAM is None, reason="needs HAProxy, which `ray[serve]` brings on Linux")
ENDED_S = 20.0
"""Half a second here; a client that sends on would otherwise stay for good."""


async def refuse(scope: Scope, receive: Receive, send: Send) -> None:
    await receive()
    await PlainTextResponse("no", 401)(scope, receive, send)


def test_a_refused_body_that_keeps_coming_ends_its_connection() -> None:
    assert PROGRAM is not None
    serve_port, port = quiet_port(), quiet_port()
    server = uvicorn.Server(
        uvicorn.Config(ProxyWindow(refuse), host="127.0.0.1", port=serve_port, log_level="error", lifespan="off")
    )
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    front = FrontProxy(PROGRAM, "127.0.0.1", port, serve_port)
    front.start()
    try:
        while not server.started:
            assert thread.is_alive()
            thread.join(0.01)
        with socket.create_connection(("127.0.0.1", port), timeout=30) as line:
            line.sendall(b"POST /v1/jobs HTTP/1.1\r\nHost: a\r\nContent-Length: 200000\r\n\r\na")
            answer = line.recv(4096)
            assert answer.startswith(b"HTTP/1.1 401 ")
            started = time.monotonic()
            with suppress(ConnectionError):
                while True:
                    line.sendall(b"a")
                    time.sleep(0.1)
                    assert time.monotonic() - started < ENDED_S
    finally:
        front.close()
        server.should_exit = True
        thread.join(30)
