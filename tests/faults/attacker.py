"""A client that holds many connections open, as a process of its own: it must not slow down the test that measures.

    python -m tests.faults.attacker '{"url": ..., ...}'

It ends when its standard input does, and then prints what it saw.
"""

from __future__ import annotations

import json
import re
import resource
import selectors
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import psutil

from tests.threads import Repeating, repeating

PIECE = bytes(1 << 20)


def connect(url: str, timeout_s: float = 30.0) -> socket.socket:
    """A line to the service."""
    host = urlsplit(url)
    return socket.create_connection((str(host.hostname), int(host.port or 80)), timeout=timeout_s)


def endless_head(url: str, num_bytes: int) -> tuple[int, float]:
    """One GET whose only field has so many bytes; the status of the answer (0 without one) and the time it took."""
    started = time.monotonic()
    answer = b""
    with connect(url) as line:
        with suppress(ConnectionError):
            line.sendall(b"GET /v1/jobs HTTP/1.1\r\nHost: localhost\r\nBig: ")
            for _ in range(num_bytes // len(PIECE)):
                line.sendall(b"a" * len(PIECE))
            line.sendall(b"\r\n\r\n")
        with suppress(ConnectionError):
            answer = line.recv(4096)
    return status_of(answer), time.monotonic() - started


def status_of(answer: bytes) -> int:
    """The status code of an answer, 0 without one."""
    found = re.match(rb"HTTP/1\.1 (\d{3})", answer)
    return int(found[1]) if found else 0


@contextmanager
def announced_upload(url: str, num_bytes: int, key: str | None = None) -> Iterator[socket.socket]:
    """A submission of which so many bytes are announced, with its head sent and the part of a file begun."""
    fields = f"Authorization: Bearer {key}\r\n" if key else ""
    with connect(url) as line:
        line.sendall(
            f"POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\n{fields}Content-Length: {num_bytes}\r\n"
            "Content-Type: multipart/form-data; boundary=xx\r\n\r\n"
            '--xx\r\nContent-Disposition: form-data; name="video"; filename="v"\r\n\r\n'.encode()
        )
        yield line


def dripping(lines: list[socket.socket], every_s: float) -> AbstractContextManager[None]:
    """Send a byte on each of these lines now and then, for the block."""

    def send() -> None:
        for line in lines:
            with suppress(OSError):
                line.sendall(b"a")

    return repeating(send, every_s)


class MemoryWatch(Repeating):
    """The most memory of their own that processes had, over what they had at the start, in MiB."""

    period_s = 0.05

    def __init__(self, processes: dict[str, psutil.Process]) -> None:
        self._processes = processes
        self._first = self._used()
        self._most = dict(self._first)

    @property
    def grown_mib(self) -> dict[str, float]:
        """By the names of the processes."""
        return {name: (self._most[name] - first) / (1 << 20) for name, first in self._first.items()}

    @property
    def kept_mib(self) -> dict[str, float]:
        """Their use now minus their use at the start, by name."""
        return {name: (now - self._first[name]) / (1 << 20) for name, now in self._used().items()}

    def _used(self) -> dict[str, int]:
        return {name: process.memory_full_info().uss for name, process in self._processes.items()}

    def look(self) -> None:
        for name, now in self._used().items():
            self._most[name] = max(self._most[name], now)


_REPO_ROOT = Path(__file__).resolve().parents[2]
_TICK_S = 0.1
_MAX_NEW = 100
"""New connections in a tick: a thousand per second."""
_CONNECT_S = 3.0


@dataclass(frozen=True)
class Attack:
    """What the connections do.

    Attributes:
        url: Address of the service.
        sent: What each sends at once, in Latin-1.
        num: Connections at a time; one that ends is replaced.
        sources: Addresses that they come from, in turn.
        drip: What each sends every `drip_s` seconds.
        drip_s: Seconds.
        reads_per_s: Bytes that each reads in a second.
    """

    url: str
    sent: str
    num: int
    sources: tuple[str, ...] = ("127.0.0.1",)
    drip: str = ""
    drip_s: float = 1.0
    reads_per_s: int = 1 << 20


@dataclass
class Seen:
    """What the connections saw.

    Attributes:
        statuses: How many got an answer with each status code.
        num_opened: Connections that were opened.
        num_refused: Connections that could not be opened.
        num_ended: Connections that the service closed.
        num_read: Bytes.
        open_s: Seconds that the longest connection was open before the service closed it.
    """

    statuses: dict[str, int] = field(default_factory=dict)
    num_opened: int = 0
    num_refused: int = 0
    num_ended: int = 0
    num_read: int = 0
    open_s: float = 0.0


@contextmanager
def attacking(attack: Attack) -> Iterator[Seen]:
    """Attack for the block; what was seen is known after it."""
    command = [sys.executable, "-m", "tests.faults.attacker", json.dumps(asdict(attack))]
    seen = Seen()
    with subprocess.Popen(command, cwd=_REPO_ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None and process.stdout.readline() == "all are open\n"
            yield seen
            found, _ = process.communicate("", timeout=60)
            seen.__dict__.update(json.loads(found))
        finally:
            process.kill()


class _Connections:
    def __init__(self, attack: Attack) -> None:
        place = urlsplit(attack.url)
        self._attack = attack
        self._address = str(place.hostname), int(place.port or 80)
        self._selector = selectors.DefaultSelector()
        self._opened: dict[socket.socket, float] = {}
        self._waiting: dict[socket.socket, float] = {}
        self._num_tries = 0
        self.seen = Seen()

    def run(self, control: socket.socket | int) -> None:
        """Keep all connections open until `control` can be read."""
        control_selector = selectors.DefaultSelector()
        control_selector.register(control, selectors.EVENT_READ)
        dripped_at, has_said = time.monotonic(), False
        while not control_selector.select(_TICK_S):
            self._open_missing()
            self._read()
            now = time.monotonic()
            if self._attack.drip and now - dripped_at >= self._attack.drip_s:
                self._send(self._attack.drip, list(self._opened))
                dripped_at = now
            if not has_said and self._num_tries >= self._attack.num:
                print("all are open", flush=True)
                has_said = True

    def _open_missing(self) -> None:
        now = time.monotonic()
        for line, at in list(self._waiting.items()):
            if now - at > _CONNECT_S:
                self._drop(line, is_refused=True)
        missing = self._attack.num - len(self._opened) - len(self._waiting)
        for _ in range(min(_MAX_NEW, missing)):
            line = socket.socket(socket.AF_INET6 if ":" in self._address[0] else socket.AF_INET)
            line.setblocking(False)
            sources: Sequence[str] = self._attack.sources
            line.bind((sources[self._num_tries % len(sources)], 0))
            self._num_tries += 1
            line.connect_ex(self._address)
            self._waiting[line] = now
            self._selector.register(line, selectors.EVENT_WRITE)

    def _read(self) -> None:
        for key, _ in self._selector.select(0):
            line = key.fileobj
            assert isinstance(line, socket.socket)
            if line in self._waiting:
                self._begin(line)
                continue
            try:
                piece = line.recv(max(1, int(self._attack.reads_per_s * _TICK_S)))
            except BlockingIOError:
                continue
            except OSError:
                piece = b""
            if not piece:
                self._drop(line)
                continue
            self.seen.num_read += len(piece)
            if found := re.match(rb"HTTP/1\.1 (\d{3})", piece):
                status = found[1].decode()
                self.seen.statuses[status] = self.seen.statuses.get(status, 0) + 1

    def _begin(self, line: socket.socket) -> None:
        if line.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            self._drop(line, is_refused=True)
            return
        self._opened[line] = time.monotonic()
        del self._waiting[line]
        self.seen.num_opened += 1
        self._selector.modify(line, selectors.EVENT_READ)
        self._send(self._attack.sent, [line])

    def _send(self, text: str, lines: Sequence[socket.socket]) -> None:
        for line in lines:
            with suppress(OSError):
                line.send(text.encode("latin-1"))

    def _drop(self, line: socket.socket, is_refused: bool = False) -> None:
        self._selector.unregister(line)
        line.close()
        self._waiting.pop(line, None)
        if is_refused:
            self.seen.num_refused += 1
            return
        self.seen.num_ended += 1
        self.seen.open_s = max(self.seen.open_s, time.monotonic() - self._opened.pop(line))


def _main() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 8192), hard))
    connections = _Connections(Attack(**json.loads(sys.argv[1])))
    connections.run(sys.stdin.fileno())
    print(json.dumps(asdict(connections.seen)), flush=True)


if __name__ == "__main__":
    _main()
