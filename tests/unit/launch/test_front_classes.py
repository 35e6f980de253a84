"""Classes of requests and WebSockets at the front proxy: each caller has a share, none takes the slots of others."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send
from websockets.exceptions import InvalidStatus
from websockets.sync.client import ClientConnection, connect
from websockets.sync.server import ServerConnection, serve

from lipwright.api.body_window import ProxyWindow
from lipwright.api.browser_token import new_browser_token
from lipwright.api.session_token import COOKIE, new_token
from lipwright.errors import LipwrightError
from lipwright.jobs.model.browser_token import TokenRequest
from lipwright.launch.front_config import FrontLimits
from lipwright.storage.local.api_keys import FileKeyRing
from tests.http2_streams import unread_streams
from tests.ports import quiet_port
from tests.unit.api_server import VIDEO_BYTES, running
from tests.unit.launch.fronted_api import Fronted, fronted_api, kill, needs_haproxy, running_front
from tests.waiting import wait_until

pytestmark = needs_haproxy
NUM_STREAMS = 90
FEW = {"max_quick": 8, "quick_share": 4, "max_spare_quick": 2, "max_unknown": 4, "unknown_share": 3, "queue_s": 2}


@contextmanager
def attacking(port: int, method: str, path: str, num: int = NUM_STREAMS, **fields: str) -> Iterator[None]:
    """Unread requests of one caller, for the block."""
    with unread_streams(port, method, path, num, fields):
        time.sleep(0.3)
        yield


@pytest.fixture(scope="module")
def fronted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fronted]:
    with fronted_api(tmp_path_factory.mktemp("usual"), queue_s=3) as fronted:
        yield fronted


@pytest.fixture(scope="module")
def crowded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fronted]:
    """A front proxy with few slots, where callers without a key take all that they can get."""
    with fronted_api(tmp_path_factory.mktemp("crowded"), **FEW, idle_s=600) as fronted:
        fronted.new_key("first")
        with attacking(fronted.port, "POST", "/v1/jobs"), attacking(fronted.port, "GET", "/v1/status"):
            yield fronted


def _forged(text: str) -> str:
    """The same with another last character."""
    return text[:-1] + ("0" if text[-1] != "0" else "1")


@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", "/v1/jobs"), ("POST", "/v1/live"), ("POST", "/healthz"), ("GET", "/healthz"), ("GET", "/v1/status")],
)
def test_front_unread_http2_streams_leave_slots_for_others(fronted: Fronted, method: str, path: str) -> None:
    key = fronted.new_key("one")
    with attacking(fronted.port, method, path), fronted.client(key) as client:
        assert {client.get("/v1/status").status_code for _ in range(5)} == {200}
        assert client.get("/healthz").status_code == 200
        assert fronted.submit(key).status_code == 202


def test_front_restart_keeps_the_keys(fronted: Fronted) -> None:
    key = fronted.new_key("one")
    kill(fronted.front)
    fronted.front.start()
    with attacking(fronted.port, "POST", "/v1/jobs"):
        assert fronted.submit(key).status_code == 202


def test_front_key_over_its_share_gets_503_alone(crowded: Fronted) -> None:
    attacker, other = crowded.new_key("attacker"), crowded.new_key("other")
    with (
        attacking(crowded.port, "GET", "/v1/status", 30, authorization=f"Bearer {attacker}"),
        crowded.client(other) as client,
        crowded.client(attacker) as own,
    ):
        assert {client.get("/v1/status").status_code for _ in range(5)} == {200}
        assert own.get("/v1/status").status_code == 503


def test_front_key_is_known_until_it_is_revoked(crowded: Fronted) -> None:
    first, second = crowded.new_key("one"), crowded.new_key("two")
    unknown = "lw_0123456789ab_unknown-unknown-unknown"
    found = [crowded.submit(key).status_code for key in (unknown, _forged(first), first, second)]
    assert found == [503, 503, 202, 202], "known with its first request"
    with crowded.client() as client:
        files = {"audio": ("a.wav", b"a"), "video": ("v.mp4", b"v")}
        assert client.post("/v1/jobs", files=files, headers={"X-API-Key": first}).status_code == 202
    crowded.keys.revoke(crowded.keys.find(first).id)
    wait_until(lambda: crowded.submit(first).status_code != 401)
    assert (crowded.submit(first).status_code, crowded.submit(second).status_code) == (503, 202)


def test_front_session_cookie_is_known_until_expiry(crowded: Fronted, monkeypatch: pytest.MonkeyPatch) -> None:
    key = crowded.keys.find(crowded.new_key("one"))
    valid = new_token(key)
    with monkeypatch.context() as patched:
        patched.setattr("lipwright.api.session_token.MAX_AGE_S", -1)
        expired = new_token(key)
    with crowded.client() as client:
        found = [
            client.get("/v1/status", headers={"Cookie": f"theme=dark; {COOKIE}={token}"}).status_code
            for token in (valid, expired, _forged(valid), "a.b.c")
        ]
    assert found == [200, 503, 503, 503]


def test_front_browser_tokens_leave_slots_for_their_key(crowded: Fronted) -> None:
    secret = crowded.new_key("one")
    key = crowded.keys.find(secret)
    limits: dict[str, Any] = {"avatar_id": "0" * 32, "origin": ("https://a.example",)}
    valid, _ = new_browser_token(key, TokenRequest.model_validate(limits))
    expired, _ = new_browser_token(key, TokenRequest.model_construct(**limits, expires_in=-1))
    path = f"/v1/avatars/{'0' * 32}/thumbnail"
    with crowded.client() as client:
        for name, prefix in (("Authorization", "Bearer "), ("Sec-WebSocket-Protocol", "lipwright.live, ")):
            tokens = (valid, expired, _forged(valid))
            sent = [{name: f"{prefix}{token}", "Origin": "https://a.example"} for token in tokens]
            found = [client.get(path, headers=headers).status_code for headers in sent]
            assert found == [404 if name == "Authorization" else 401, 503, 503], name
    fields = {"authorization": f"Bearer {valid}", "origin": "https://a.example"}
    with (
        attacking(crowded.port, "GET", path, 30, **fields),
        crowded.client(secret) as client,
        crowded.client() as visitor,
    ):
        assert visitor.get(path, headers=fields).status_code == 503
        assert client.get("/v1/status").status_code == 200


def test_front_submissions_without_keys_reach_the_queue(tmp_path: Path) -> None:
    with fronted_api(tmp_path, queue_s=60) as fronted, ThreadPoolExecutor(40) as pool:
        accepted = list(pool.map(lambda _: fronted.submit(), range(80)))
        fronted.service.is_full = True
        refused = list(pool.map(lambda _: fronted.submit(), range(80)))
    assert Counter(answer.status_code for answer in accepted) == {202: 80}
    assert Counter(answer.status_code for answer in refused) == {429: 80}
    assert {answer.headers["retry-after"] for answer in refused} == {"7"}


def test_front_callers_without_a_key_get_no_event_streams(tmp_path: Path) -> None:
    is_over, followed = threading.Event(), list[int]()

    def attack(front: Fronted, path: str) -> Counter[int]:
        statuses: Counter[int] = Counter()
        with front.client() as client:
            while not is_over.is_set():
                statuses[client.get(path).status_code] += 1
                time.sleep(0.04)
        return statuses

    with fronted_api(tmp_path) as fronted, ThreadPoolExecutor(8) as pool, ExitStack() as stack:
        secret = fronted.new_key("one")
        path = f"/v1/jobs/{fronted.submit(secret).json()['id']}/events"
        attacks = [pool.submit(attack, fronted, each) for each in ("/x/events", path) for _ in range(4)]
        stack.callback(is_over.set)
        client = stack.enter_context(fronted.client(secret))
        time.sleep(0.5)
        for _ in range(16):
            followed.append(stack.enter_context(client.stream("GET", path)).status_code)
            time.sleep(0.125)
        is_over.set()
        refused = sum((attack.result() for attack in attacks), Counter[int]())
    assert followed == [200] * 16
    assert set(refused) <= {401, 503} and refused[401] > 32, refused


def test_front_uploads_of_a_key_leave_slots_for_others(tmp_path: Path) -> None:
    limits = {"max_uploads": 8, "upload_share": 4, "max_spare_uploads": 2, "max_downloads": 4, "max_quick": 1}
    with fronted_api(tmp_path, **limits, queue_s=2) as fronted, ExitStack() as stack:
        first, second = fronted.new_key("one"), fronted.new_key("two")
        done, waiting = (fronted.submit(first).json()["id"] for _ in range(2))
        fronted.service.finish(done)
        for number in range(20):
            stack.enter_context(_slow_upload(fronted.port, f"{' ' * number}{first}"))  # spelled in other ways
        time.sleep(0.5)
        assert {fronted.submit(second).status_code for _ in range(3)} == {202}
        client = stack.enter_context(fronted.client(first))
        assert client.get(f"/v1/jobs/{done}/video").content == VIDEO_BYTES, "downloads have slots of their own"
        for _ in range(3):  # each lasts as long as the job
            preview = stack.enter_context(client.stream("GET", f"/v1/jobs/{waiting}/preview"))
            assert preview.status_code == 200
        assert client.get("/v1/jobs").status_code == 200, "previews take no slots of short requests"
        fronted.service.fail(waiting, LipwrightError())


def _slow_upload(port: int, key: str) -> socket.socket:
    """A connection that announces a body and sends a part of it."""
    line = socket.create_connection(("127.0.0.1", port), timeout=30)
    line.sendall(
        f"POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {key}\r\n"
        "Content-Type: multipart/form-data; boundary=b\r\nContent-Length: 200000\r\n\r\n--b\r\n".encode()
    )
    return line


MAX_LIVE = 64


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with answering(None) as port:
        yield port


@contextmanager
def answering(keys: FileKeyRing | None, **limits: Any) -> Iterator[int]:
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
    with answering(keys, max_live=6, live_share=3) as port, ExitStack() as lines:
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
