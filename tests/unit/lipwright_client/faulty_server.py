"""A server that misbehaves as configured: breaks lines, is full, is a proxy. Raw sockets: no framework would do it."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tests.unit.net.web import read_request

Answer = Callable[[str, dict[str, str]], bytes | None]


@contextmanager
def unruly(answer: Answer) -> Iterator[str]:
    """Serve on loopback: `answer` gets the request line and its headers, and says what is sent before the line ends.

    None ends the line without a word.
    """
    listener = socket.create_server(("127.0.0.1", 0))
    listener.settimeout(0.1)
    is_over = threading.Event()

    def serve() -> None:
        while not is_over.is_set():
            try:
                line, _ = listener.accept()
            except TimeoutError:
                continue
            with line:
                line.settimeout(60)
                head, headers = _read(line)
                if head and (said := answer(head, headers)) is not None:
                    line.sendall(said)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        is_over.set()
        thread.join(10)
        listener.close()


def http(status: str, body: bytes = b"", **headers: str) -> bytes:
    """A whole answer that closes its line."""
    fields = {"content-length": str(len(body)), "connection": "close"} | {
        name.replace("_", "-"): value for name, value in headers.items()
    }
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"HTTP/1.1 {status}\r\n{head}\r\n".encode() + body


def _read(line: socket.socket) -> tuple[str, dict[str, str]]:
    first, *rest = read_request(line.recv).partition(b"\r\n\r\n")[0].decode().split("\r\n")
    return first, {name.lower(): value.strip() for name, _, value in (field.partition(":") for field in rest)}
