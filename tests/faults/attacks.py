"""Attacks on the HTTP port of a service: the head without an end, the idle upload, the fast one."""

from __future__ import annotations

import re
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from urllib.parse import urlsplit

import psutil

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


class Drip:
    """Sends a byte on each of these lines now and then, until they end."""

    def __init__(self, lines: list[socket.socket], every_s: float) -> None:
        self._lines = lines
        self._every_s = every_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Drip:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(20)

    def _run(self) -> None:
        while not self._stop.wait(self._every_s):
            for line in self._lines:
                with suppress(OSError):
                    line.sendall(b"a")


class MemoryWatch:
    """The most memory of their own that processes had, over what they had at the start, in MiB."""

    def __init__(self, processes: dict[str, psutil.Process]) -> None:
        self._processes = processes
        self._first = self._look()
        self._most = dict(self._first)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> MemoryWatch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(20)

    @property
    def grown_mib(self) -> dict[str, float]:
        """By the names of the processes."""
        return {name: (self._most[name] - first) / (1 << 20) for name, first in self._first.items()}

    @property
    def kept_mib(self) -> dict[str, float]:
        """Their use now minus their use at the start, by name."""
        return {name: (now - self._first[name]) / (1 << 20) for name, now in self._look().items()}

    def _look(self) -> dict[str, int]:
        return {name: process.memory_full_info().uss for name, process in self._processes.items()}

    def _run(self) -> None:
        while not self._stop.wait(0.05):
            for name, now in self._look().items():
                self._most[name] = max(self._most[name], now)
