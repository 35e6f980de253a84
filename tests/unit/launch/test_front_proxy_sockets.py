"""WebSockets through the front, bounded in number and pace; refused bodies and sockets do not keep their slots."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send
from websockets.exceptions import InvalidStatus
from websockets.sync.client import ClientConnection, connect
from websockets.sync.server import ServerConnection, serve

from api.body_window import ProxyWindow
from api.browser_token import new_browser_token
from jobs.model.browser_token import TokenRequest
from launch.front_config import FrontLimits
from storage.local.api_keys import FileKeyRing
from tests.ports import quiet_port
from tests.unit.api_server import running
from tests.unit.launch.fronted_api import needs_haproxy, running_front
from tests.waiting import wait_until

pytestmark = needs_haproxy
MAX_LIVE = 64


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with fronted(None) as port:
        yield port


@contextmanager
def fronted(keys: FileKeyRing | None, **limits: Any) -> Iterator[int]:
    """The port of a front before a server that says which fields it got, and then how long each message is."""

    def answer(line: ServerConnection) -> None:
        assert line.request is not None
        line.send(json.dumps(dict(line.request.headers.raw_items())))
        for message in line:
            line.send(str(len(message)))

    with serve(answer, "127.0.0.1", 0, max_size=2**24) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        serve_port = server.socket.getsockname()[1]
        with running_front(serve_port, limits=FrontLimits(**limits), keys=keys) as (_, port):
            yield port
        server.shutdown()


def websocket(port: int, **fields: str) -> ClientConnection:
    return connect(f"ws://127.0.0.1:{port}/v1/live", proxy=None, additional_headers=fields, open_timeout=30)


def test_front_socket_has_no_deadline_and_no_compression(port: int) -> None:
    with websocket(port, **{"X-Request-Timeout-Seconds": "5", "X-Request-Disconnect-Disabled": "?1"}) as line:
        found = {name.lower(): value for name, value in json.loads(line.recv(timeout=20)).items()}
        assert found["x-request-timeout-seconds"] == "0", "the session bounds itself"
        assert "sec-websocket-extensions" not in found
        assert "x-request-disconnect-disabled" not in found
        assert found["x-lipwright-front"].startswith("127.0.0.1 1.1")
        line.send("a word")
        assert line.recv(timeout=20) == "6"


def test_front_socket_over_its_rate_is_slowed_down(port: int) -> None:
    with websocket(port) as line:
        line.recv(timeout=20)
        started = time.monotonic()
        for _ in range(4):
            line.send(bytes(1024**2))
        for _ in range(4):
            assert line.recv(timeout=60) == str(1024**2)
        assert time.monotonic() - started > 2.0, "4 MiB at 1 MiB/s, of which the first goes at once"


def test_front_sockets_over_max_live_get_503(port: int) -> None:
    with ExitStack() as lines:
        for _ in range(MAX_LIVE):
            lines.enter_context(websocket(port)).recv(timeout=20)
        with pytest.raises(InvalidStatus) as refused:
            websocket(port)
        assert refused.value.response.status_code == 503
        assert json.loads(refused.value.response.body)["code"] == "busy"

    def is_served() -> bool:
        with suppress(InvalidStatus), websocket(port) as line:
            line.recv(timeout=20)
            return True
        return False

    wait_until(is_served, 60)  # the places of those who left are free


def test_front_sockets_of_a_key_leave_slots_for_others(tmp_path: Path) -> None:
    keys = FileKeyRing(tmp_path)
    (key, attacker), (_, other) = keys.add("attacker"), keys.add("other")
    grant = TokenRequest(avatar_id="0" * 32, origin=("https://a.example",))
    token, _ = new_browser_token(key, grant)
    offered = {"Sec-WebSocket-Protocol": f"lipwright.live, {token}"}
    with fronted(keys, max_live=6, live_share=3) as port, ExitStack() as lines:
        found = json.loads(lines.enter_context(websocket(port, **offered)).recv(timeout=20))
        assert found["x-request-timeout-seconds"] == "0", "it has the class of live sessions"
        for _ in range(2):
            lines.enter_context(websocket(port, Authorization=f"Bearer {attacker}")).recv(timeout=20)
        for fields in (offered, {"Authorization": f"Bearer {attacker}"}, {"X-API-Key": attacker}):
            with pytest.raises(InvalidStatus, match="503"):
                websocket(port, **fields)
        with websocket(port, Authorization=f"Bearer {other}") as line:
            line.recv(timeout=20)


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
def refusing(**limits: Any) -> Iterator[int]:
    serve_port = quiet_port()
    with running(ProxyWindow(refuse), serve_port), running_front(serve_port, limits=FrontLimits(**limits)) as (_, port):
        yield port


def test_front_refused_body_ends_its_connection() -> None:
    with refusing() as port, socket.create_connection(("127.0.0.1", port), timeout=30) as line:
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
    with refusing(max_live=3) as port, ExitStack() as lines:
        assert [_opened(port, lines) for _ in range(4)] == [b"101", b"101", b"101", b"503"]
        wait_until(lambda: _opened(port, lines) != b"503", ENDED_S, 0.2)


def _opened(port: int, lines: ExitStack) -> bytes:
    """Open a WebSocket that stays silent; returns the status of the answer."""
    line = lines.enter_context(socket.create_connection(("127.0.0.1", port), timeout=30))
    line.sendall(_HANDSHAKE)
    return line.recv(4096)[9:12]
