"""Live sessions through the front: WebSockets get through, bounded in number and in pace."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import ClientConnection, connect
from websockets.sync.server import ServerConnection, serve

from api.browser_token import new_browser_token
from jobs.model.browser_token import TokenRequest
from launch.front_config import FrontLimits
from storage.local.api_keys import FileKeyRing
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


def socket(port: int, **fields: str) -> ClientConnection:
    return connect(f"ws://127.0.0.1:{port}/v1/live", proxy=None, additional_headers=fields, open_timeout=30)


def test_front_socket_has_no_deadline_and_no_compression(port: int) -> None:
    with socket(port, **{"X-Request-Timeout-Seconds": "5", "X-Request-Disconnect-Disabled": "?1"}) as line:
        found = {name.lower(): value for name, value in json.loads(line.recv(timeout=20)).items()}
        assert found["x-request-timeout-seconds"] == "0", "the session bounds itself"
        assert "sec-websocket-extensions" not in found
        assert "x-request-disconnect-disabled" not in found
        assert found["x-lipwright-front"].startswith("127.0.0.1 1.1")
        line.send("a word")
        assert line.recv(timeout=20) == "6"


def test_front_socket_over_its_rate_is_slowed_down(port: int) -> None:
    with socket(port) as line:
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
            lines.enter_context(socket(port)).recv(timeout=20)
        with pytest.raises(InvalidStatus) as refused:
            socket(port)
        assert refused.value.response.status_code == 503
        assert json.loads(refused.value.response.body)["code"] == "busy"

    def is_served() -> bool:
        with suppress(InvalidStatus), socket(port) as line:
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
        found = json.loads(lines.enter_context(socket(port, **offered)).recv(timeout=20))
        assert found["x-request-timeout-seconds"] == "0", "it has the class of live sessions"
        for _ in range(2):
            lines.enter_context(socket(port, Authorization=f"Bearer {attacker}")).recv(timeout=20)
        with pytest.raises(InvalidStatus, match="503"):
            socket(port, **offered)
        with pytest.raises(InvalidStatus, match="503"):
            socket(port, Authorization=f"Bearer {attacker}")
        with pytest.raises(InvalidStatus, match="503"):
            socket(port, **{"X-API-Key": attacker})
        with socket(port, Authorization=f"Bearer {other}") as line:
            line.recv(timeout=20)
