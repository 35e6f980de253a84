"""The front before the real API: who takes many connections leaves enough for others, and for health checks."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from urllib.parse import urlsplit

import httpx
import pytest

from launch.front_config import FrontLimits
from tests.ports import quiet_port
from tests.unit.launch.fronted_api import needs_haproxy, running_front

pytestmark = needs_haproxy
LIMITS = FrontLimits(max_connections=64, head_s=120)
BEGUN = b"GET /v1/jobs HTTP/1.1\r\nHost: "
NETWORK = "fd4c:6970:7772:{}::{}"


@pytest.fixture
def serve_port(url: str) -> int:
    """The port of the API in memory."""
    return urlsplit(url).port or 0


@contextmanager
def fronted(serve_port: int, host: str = "127.0.0.1", health_port: int | None = None) -> Iterator[int]:
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
    with fronted(serve_port) as port, held(port, sources, num) as num_open:
        assert least <= num_open <= most
        assert is_healthy(port, "127.0.0.9")


def test_front_health_port_answers_when_the_other_is_full(serve_port: int) -> None:
    health_port = quiet_port()
    with fronted(serve_port, health_port=health_port) as port, held(port, ["127.0.0.1"], 80):
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
    with fronted(serve_port, host="::") as port:
        with held(port, one, 64) as num_open:
            assert num_open == 16
            assert is_healthy(port, several[0])
        with held(port, several[:3], 64) as num_open:
            assert num_open > 30
        ipv4 = [f"127.0.0.{number}" for number in range(2, 5)]
        with held(port, ipv4, 64) as num_open:
            assert num_open > 30, "IPv4 addresses of a listener for both kinds are told apart"
