"""A submission written to the socket by hand, as slowly and as incompletely as a test wants."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import httpx

from tests.faults.load import Pair


class RawUpload:
    """One POST to /v1/jobs, of which only the head is sent at first."""

    def __init__(self, line: socket.socket, body: bytes) -> None:
        self._line = line
        self._body = body

    def send(self, num_bytes: int | None = None) -> None:
        """Send so much more of the body, or all of it."""
        piece, self._body = self._body[:num_bytes], self._body[num_bytes:] if num_bytes else b""
        self._line.sendall(piece)

    def send_chunk(self, num_bytes: int) -> None:
        """Send so much more of a chunked body."""
        piece, self._body = self._body[:num_bytes], self._body[num_bytes:]
        self._line.sendall(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")

    def answer(self, timeout_s: float = 60.0) -> tuple[int, dict[str, str], dict[str, Any]]:
        """Status, headers and JSON of the answer."""
        self._line.settimeout(timeout_s)
        received = b""
        while b"\r\n\r\n" not in received:
            received += self._more()
        head, _, body = received.partition(b"\r\n\r\n")
        status, *lines = head.decode().split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        while len(body) < int(headers["content-length"]):
            body += self._more()
        return int(status.split(" ")[1]), headers, json.loads(body)

    def _more(self) -> bytes:
        piece = self._line.recv(65536)
        assert piece, "the line ended before the answer"
        return piece


@contextmanager
def raw_upload(url: str, pair: Pair, headers: dict[str, str] | None = None) -> Iterator[RawUpload]:
    """A line with the head of a submission of `pair`; closed, whatever was sent, at the end of the block.

    `headers` are added, and take the place of those that tell the body's length.
    """
    form = httpx.Request("POST", f"{url}/v1/jobs", files={"video": ("v", pair.video), "audio": ("a", pair.audio)})
    body, host = form.read(), urlsplit(url)
    fields = {"Host": host.netloc, "Content-Type": form.headers["content-type"], **(headers or {})}
    if not {"Content-Length", "Transfer-Encoding"} & set(fields):
        fields["Content-Length"] = str(len(body))
    with socket.create_connection((str(host.hostname), int(host.port or 80)), timeout=60) as line:
        lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        line.sendall(f"POST /v1/jobs HTTP/1.1\r\n{lines}\r\n".encode())
        yield RawUpload(line, body)
