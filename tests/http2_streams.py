"""Requests over HTTP/2 without TLS that no client library sends: bodies without an end, answers that nobody reads."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from itertools import cycle, islice

from tests.threads import repeating

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _SETTINGS = 0x0, 0x1, 0x4  # RFC 9113, 6
_END_HEADERS = 0x4
_INITIAL_WINDOW_SIZE = 0x4


class Http2Connection:
    def __init__(self, port: int) -> None:
        self._line = socket.create_connection(("127.0.0.1", port), 30)
        self._line.sendall(_PREFACE + _frame(_SETTINGS, 0, 0, struct.pack(">HI", _INITIAL_WINDOW_SIZE, 0)))
        self._next_stream = 1

    def open_stream(self, method: str, path: str, fields: Mapping[str, str] | None = None) -> int:
        """Send the head of a request whose body does not end; returns the number of its stream."""
        head = {":method": method, ":scheme": "http", ":path": path, ":authority": "localhost", **(fields or {})}
        block = b"".join(b"\x00" + _text(name) + _text(value) for name, value in head.items())
        stream, self._next_stream = self._next_stream, self._next_stream + 2
        self._line.sendall(_frame(_HEADERS, _END_HEADERS, stream, block))
        return stream

    def send(self, stream: int, data: bytes) -> None:
        self._line.sendall(_frame(_DATA, 0, stream, data))

    def close(self) -> None:
        self._line.close()


@contextmanager
def unread_streams(
    port: int, method: str, path: str, num: int, fields: Mapping[str, str] | None = None
) -> Iterator[list[tuple[Http2Connection, int]]]:
    """Requests on three connections that send a few bytes and read nothing, for the block."""
    connections = [Http2Connection(port) for _ in range(3)]
    try:
        streams = []
        for connection in islice(cycle(connections), num):
            stream = connection.open_stream(method, path, fields)
            connection.send(stream, b"abc")
            streams.append((connection, stream))
        yield streams
    finally:
        for connection in connections:
            connection.close()


def dripping(streams: list[tuple[Http2Connection, int]], every_s: float) -> AbstractContextManager[None]:
    """Send a few more bytes on all streams now and then, for the block."""

    def send() -> None:
        for connection, stream in streams:
            with suppress(OSError):
                connection.send(stream, b"abc")

    return repeating(send, every_s)


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def _text(text: str) -> bytes:
    """A string without Huffman code (RFC 7541, 5.2)."""
    octets, size = text.encode(), b""
    if (left := len(octets)) >= 127:
        size, left = b"\x7f", left - 127
        while left >= 128:
            size, left = size + bytes([left % 128 + 128]), left // 128
    return size + bytes([left]) + octets
