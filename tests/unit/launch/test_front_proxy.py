"""The front proxy: what it lets through and refuses, how it ends, and how many connections an address may have."""

from __future__ import annotations

import json
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import psutil
import pytest
from starlette.types import Receive, Scope, Send

from lipwright.api.body_window import ProxyWindow
from lipwright.errors import ConfigError
from lipwright.launch.front_config import FrontLimits
from lipwright.launch.front_proxy import FrontProxy, haproxy_binary
from lipwright.net.access_rule import FRONT_HEADER
from tests.ports import quiet_port
from tests.threads import QuietHandler, http_server
from tests.unit.api_server import running
from tests.unit.launch.fronted_api import kill, needs_haproxy, running_front
from tests.waiting import wait_until

PROGRAM = haproxy_binary()
REPO_ROOT = Path(__file__).resolve().parents[3]
pytestmark = needs_haproxy


class _Echo(QuietHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        status = 404 if self.path.startswith("/missing") else 200
        fields = {"X_Frame_Options": "DENY"} if self.path == "/missing-in-ingress" else {}
        self.answer(json.dumps(dict(self.headers.items())).encode(), status, **fields)

    def do_POST(self) -> None:
        self.body()
        time.sleep(2.5)
        self.answer()


@pytest.fixture(scope="module")
def behind() -> Iterator[int]:
    """The port of a server that answers with the fields it got."""
    with http_server(_Echo) as port:
        yield port


@pytest.fixture(scope="module")
def port(behind: int) -> Iterator[int]:
    """The port of a front proxy before that server."""
    with fronted(behind) as (_, port):
        yield port


@contextmanager
def fronted(serve_port: int, **limits: Any) -> Iterator[tuple[FrontProxy, int]]:
    with running_front(serve_port, limits=FrontLimits(**limits)) as fronted:
        yield fronted


def raw(port: int, sent: bytes, timeout_s: float = 60.0) -> bytes:
    """What comes back until the line ends."""
    received = b""
    with socket.create_connection(("127.0.0.1", port), timeout=timeout_s) as line:
        with suppress(ConnectionError):
            line.sendall(sent)
        with suppress(ConnectionError):
            while piece := line.recv(65536):
                received += piece
    return received


def get(port: int, path: str = "/", **fields: str) -> httpx.Response:
    return httpx.get(f"http://127.0.0.1:{port}{path}", headers=fields, trust_env=False, timeout=60)


def test_front_requests_carry_the_callers_address(port: int) -> None:
    for fields in ({}, {FRONT_HEADER: "127.0.0.1 1.1"}, {"x-request-disconnect-disabled": "?1"}):
        seen = {name.lower(): value for name, value in get(port, **fields).json().items()}
        assert seen[FRONT_HEADER] == "127.0.0.1 1.1"
        assert "x-request-disconnect-disabled" not in seen
    assert b'"127.0.0.1 1.0"' in raw(port, b"GET / HTTP/1.0\r\n\r\n")


def test_front_proxy_until_ingress_runs_answers_503(port: int) -> None:
    starting = get(port, path="/missing-in-serve")
    assert get(port, path="/missing-in-ingress").status_code == 404
    with fronted(quiet_port()) as (_, port):
        without_serve = get(port)
    for answer in (starting, without_serve):
        assert (answer.status_code, answer.json()["code"], answer.json()["retryable"]) == (503, "replica_lost", True)
    assert int(without_serve.headers["retry-after"]) >= 1


def test_front_proxy_removes_folders_of_killed_services(behind: int, monkeypatch: pytest.MonkeyPatch) -> None:
    with tempfile.TemporaryDirectory() as folder:  # a short path, for HAProxy's socket
        monkeypatch.setattr(tempfile, "tempdir", folder)
        killed = Path(folder) / "lipwright-front-killed"
        killed.mkdir()
        (killed / "service.lock").touch()
        with fronted(behind) as (_, port):
            (running,) = Path(folder).glob("lipwright-front-*")
            with fronted(behind):
                assert running.is_dir()
            assert get(port).status_code == 200
        assert not killed.exists() and not running.exists()


def test_metrics_port_foreign_host_answers_403(behind: int) -> None:
    port = quiet_port()
    with running_front(behind, metrics_ports=(port, behind)):
        for host in ("127.0.0.1", f"localhost:{port}", f"LOCALHOST:{port}", f"[::1]:{port}"):
            assert get(port, host=host).json()["host"] == host
        for host in ("evil.example", f"evil.example:{port}", "127.0.0.1.evil.example", "10.0.0.1", ""):
            answer = get(port, host=host)
            assert (answer.status_code, answer.headers["content-type"]) == (403, "application/problem+json"), host
        assert b" 403 " in raw(port, b"GET /metrics HTTP/1.0\r\n\r\n").partition(b"\r\n")[0]


def test_front_large_head_gets_431(port: int) -> None:
    assert get(port, big="a" * 12_000).status_code == 200
    for size in (17_000, 60_000):
        answer = get(port, big="a" * size)
        assert answer.status_code == 431
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["code"] == "head_too_large"
    for target, size, status in ((10_000, 5_000, b"200"), (9_000, 8_000, b"431"), (17_000, 0, b"431")):
        sent = f"GET /{'a' * target} HTTP/1.1\r\nHost: a\r\nConnection: close\r\nBig: {'a' * size}\r\n\r\n"
        assert raw(port, sent.encode())[9:12] == status


def test_front_reads_little_ahead_of_a_slow_client() -> None:
    num_sent, last_at = 0, time.monotonic()

    async def download(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal num_sent, last_at
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for _ in range(256):
            await send({"type": "http.response.body", "body": bytes(64 * 1024), "more_body": True})
            num_sent, last_at = num_sent + 64 * 1024, time.monotonic()
        await send({"type": "http.response.body"})

    with (
        running(ProxyWindow(download)) as url,
        running_front(urlsplit(url).port or 0) as (_, port),
        socket.create_connection(("127.0.0.1", port), 60) as line,
    ):
        line.sendall(b"GET /v1/jobs/0/video HTTP/1.1\r\nHost: localhost\r\n\r\n")
        wait_until(lambda: num_sent and time.monotonic() - last_at > 1.0, 60)
        assert num_sent < 4 * 1024**2, "in the kernel's buffers"


def test_front_too_many_event_streams_get_503_alone(port: int) -> None:
    with (
        httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=60) as client,
        ThreadPoolExecutor(20) as followers,
    ):
        refused: list[httpx.Response] = []
        for _ in range(20):  # a busy machine may be too slow to follow by the dozen in a second
            answers = list(followers.map(lambda _: client.get("/v1/jobs/0/events"), range(60)))
            assert 200 in {answer.status_code for answer in answers}
            if refused := [answer for answer in answers if answer.status_code == 503]:
                break
        assert refused and refused[0].json()["code"] == "busy" and int(refused[0].headers["retry-after"]) >= 1
        assert {client.get(path).status_code for path in ("/healthz", "/v1/jobs", "/v1/jobs/0/video")} == {200}
        spelled = {client.get("/v1/jobs/0/event%73").status_code for _ in range(60)}
        assert 503 in spelled, "another way to the same"


def test_front_malformed_paths_and_hosts_are_refused(port: int) -> None:
    refused = ("/a%2fb", "/a%2Fb", "/a%5cb", "/a%00", "/a%0d", "/a%7f", "/a%", "/a%g1", "/a%1")
    passed = ("/v1/voices/my%20voice", "/v1/voices/J%C3%BCrgen", "/v1/voices/100%25")
    for path in (*refused, *passed):
        answer = raw(port, f"GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".encode())
        assert answer[9:12] == (b"404" if path in refused else b"200"), path
    for hosts in ("", "Host: a\r\nHost: b\r\n"):
        assert raw(port, f"GET / HTTP/1.1\r\n{hosts}\r\n".encode())[9:12] == b"400"


def test_front_unfinished_head_ends_the_connection(behind: int) -> None:
    with fronted(behind, head_s=2) as (_, port):
        for begun in (b"", b"GET / HTTP/1.1\r\nHost: "):
            started = time.monotonic()
            raw(port, begun, timeout_s=45)  # a line that stays open raises TimeoutError
            assert time.monotonic() - started > 1


def test_front_idle_caller_is_closed_and_waiting_one_kept(behind: int) -> None:
    with fronted(behind, idle_s=1) as (_, port):
        # In one piece: between two, a busy machine may stand still for longer than a caller may be idle.
        sent = b"POST /v1/jobs HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 3\r\n\r\nabc"
        assert raw(port, sent, timeout_s=60).startswith(b"HTTP/1.1 200 "), "who waits for an answer is not idle"
        raw(port, b"POST /v1/jobs HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nabc")  # or raises TimeoutError


def test_front_address_in_use_is_refused(behind: int, port: int) -> None:
    assert PROGRAM is not None
    second = FrontProxy(PROGRAM, "127.0.0.1", port, behind)
    with pytest.raises(ConfigError, match=f"127.0.0.1:{port}: cannot listen"):
        second.start()
    second.close()


def test_front_config_that_haproxy_refuses_names_the_reason(
    behind: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert PROGRAM is not None
    folder = tmp_path / ("long" * 30)  # the path of a socket has at most 107 characters
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    front = FrontProxy(PROGRAM, "127.0.0.1", quiet_port(), behind)
    with pytest.raises(ConfigError, match=r"refuses .*front.*: .*socket"):
        front.start()
    front.close()


def test_front_restart_serves_callers_that_wait(behind: int) -> None:
    with fronted(behind) as (front, port), ThreadPoolExecutor(1) as caller:
        assert get(port).status_code == 200
        for removes_folder in (False, True):
            kill(front)
            assert not front.is_alive
            if removes_folder:
                shutil.rmtree(front._folder)
            waiting = caller.submit(get, port)
            front.start()
            assert waiting.result(60).status_code == 200


def test_front_restart_in_a_replaced_folder_is_refused(behind: int, tmp_path: Path) -> None:
    with fronted(behind) as (front, _):
        kill(front)
        shutil.rmtree(front._folder)
        front._folder.symlink_to(tmp_path)
        with pytest.raises(ConfigError, match="expected a folder of this user"):
            front.start()
        assert not list(tmp_path.iterdir())
        front._folder.unlink()


def test_front_ends_with_its_parent(behind: int) -> None:
    port = quiet_port()
    code = (
        "import sys, time; from lipwright.launch.front_proxy import *; "
        f"front = FrontProxy(haproxy_binary(), '127.0.0.1', {port}, {behind}); front.start(); "
        "print(front._process.pid, flush=True); time.sleep(100)"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], cwd=REPO_ROOT, stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    assert get(port).status_code == 200
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    wait_until(lambda: not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE, 60)
    parent.stdout.close()


LIMITS = FrontLimits(max_connections=64, head_s=120)
BEGUN = b"GET /v1/jobs HTTP/1.1\r\nHost: "
NETWORK = "fd4c:6970:7772:{}::{}"


@pytest.fixture
def serve_port(url: str) -> int:
    """The port of the API in memory."""
    return urlsplit(url).port or 0


@contextmanager
def limited(serve_port: int, host: str = "127.0.0.1", health_port: int | None = None) -> Iterator[int]:
    with running_front(serve_port, host, health_port=health_port, limits=LIMITS) as (_, port):
        assert is_healthy(port)
        yield port


@contextmanager
def held(port: int, sources: Sequence[str], num: int) -> Iterator[int]:
    """Connections for the block; gives the number of those that stay open."""
    with ExitStack() as stack:
        is_ipv6 = ":" in sources[0]
        target = ("::1" if is_ipv6 else "127.0.0.1", port)
        lines = []
        for number in range(num):
            with suppress(ConnectionError):
                line = socket.create_connection(target, 10, (sources[number % len(sources)], 0))
                lines.append(stack.enter_context(line))
                line.sendall(BEGUN)
        is_healthy(port, "::1" if is_ipv6 else "127.0.0.99")  # asked after them, answered after them
        yield sum(map(_is_open, lines))


def _is_open(line: socket.socket) -> bool:
    line.setblocking(False)
    try:
        return line.recv(1) != b""
    except BlockingIOError:
        return True
    except ConnectionError:
        return False


def is_healthy(port: int, source: str = "127.0.0.1") -> bool:
    """Whether /healthz is answered, long before connections that wait for a head end."""
    with httpx.Client(transport=httpx.HTTPTransport(local_address=source)) as client, suppress(httpx.HTTPError):
        host = "[::1]" if ":" in source else "127.0.0.1"
        client.get(f"http://{host}:{port}/healthz", timeout=30).raise_for_status()
        return True
    return False


@pytest.mark.parametrize(
    ("sources", "num", "least", "most"),
    [
        (["127.0.0.2"], 40, 16, 16),
        ([f"127.0.0.{number}" for number in range(2, 7)], 200, 17, 40),  # from half on, each address has fewer
        (["127.0.0.1"], 80, 49, 57),  # a reverse proxy on this machine
    ],
)
def test_front_addresses_get_a_share_of_connections(
    serve_port: int, sources: list[str], num: int, least: int, most: int
) -> None:
    with limited(serve_port) as port, held(port, sources, num) as num_open:
        assert least <= num_open <= most
        assert is_healthy(port, "127.0.0.9")


def test_front_health_port_answers_when_the_other_is_full(serve_port: int) -> None:
    health_port = quiet_port()
    with limited(serve_port, health_port=health_port) as port, held(port, ["127.0.0.1"], 80):
        assert not is_healthy(port), "the attack is as strong as it should be"
        assert all(is_healthy(health_port) for _ in range(20))
        answer = httpx.get(f"http://127.0.0.1:{health_port}/v1/status", trust_env=False, timeout=30)
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
        with held(health_port, ["127.0.0.1"], 2 * LIMITS.max_health_connections):
            assert is_healthy(health_port), "a head may take two seconds there"


@pytest.fixture(scope="module")
def networks() -> Iterator[tuple[list[str], list[str]]]:
    """Addresses of one /64 network, and of several, on loopback."""
    one = [NETWORK.format(1, number) for number in range(1, 9)]
    several = [NETWORK.format(number, 1) for number in range(2, 10)]
    command = ["ip", "-6", "address"]
    try:
        for address in (*one, *several):
            added = [*command, "replace", f"{address}/128", "dev", "lo", "nodad"]
            subprocess.run(added, check=True, capture_output=True, timeout=30)
        yield one, several
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("needs the right to give loopback more addresses")
    finally:
        for address in (*one, *several):
            with suppress(OSError):
                subprocess.run([*command, "delete", f"{address}/128", "dev", "lo"], capture_output=True, timeout=30)


def test_front_ipv6_network_counts_as_one_address(serve_port: int, networks: tuple[list[str], list[str]]) -> None:
    one, several = networks
    with limited(serve_port, host="::") as port:
        with held(port, one, 64) as num_open:
            assert num_open == 16
            assert is_healthy(port, several[0])
        with held(port, several[:3], 64) as num_open:
            assert num_open > 30
        ipv4 = [f"127.0.0.{number}" for number in range(2, 5)]
        with held(port, ipv4, 64) as num_open:
            assert num_open > 30, "IPv4 addresses of a listener for both kinds are told apart"
