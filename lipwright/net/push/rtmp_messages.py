"""Messages of RTMP, cut into chunks, and the values in them in Action Message Format 0 (AMF0)."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

Value = float | bool | str | None | Mapping[str, "Value"]

_NUMBER, _BOOLEAN, _STRING, _OBJECT, _NULL, _UNDEFINED, _ECMA_ARRAY, _END, _STRICT_ARRAY, _DATE, _LONG_STRING = (
    *range(4),
    *range(5, 7),
    *range(8, 13),
)
_MAX_DEPTH: Final = 8


def encode(*values: Value) -> bytes:
    """Encodes values one after the other."""
    return b"".join(map(_encode, values))


def decode(data: bytes) -> list[Value]:
    """Decodes all values of a message.

    Raises:
        ValueError: The data is malformed.
    """
    values: list[Value] = []
    place = 0
    try:
        while place < len(data):
            value, place = _decode(data, place, 0)
            values.append(value)
    except (struct.error, IndexError) as error:
        raise ValueError("expected AMF0, found data that ends early") from error
    return values


def _encode(value: Value) -> bytes:
    if value is None:
        return bytes([_NULL])
    if isinstance(value, bool):
        return bytes([_BOOLEAN, value])
    if isinstance(value, int | float):
        return struct.pack(">Bd", _NUMBER, value)
    if isinstance(value, str):
        return bytes([_STRING]) + _text(value)
    fields = b"".join(_text(key) + _encode(field) for key, field in value.items())
    return bytes([_OBJECT]) + fields + struct.pack(">HB", 0, _END)


def _text(text: str) -> bytes:
    data = text.encode()
    return struct.pack(">H", len(data)) + data


def _decode(data: bytes, place: int, depth: int) -> tuple[Value, int]:
    kind, place = data[place], place + 1
    if depth > _MAX_DEPTH:
        raise ValueError("expected AMF0, found objects nested too deeply")
    if kind == _NUMBER:
        return float(struct.unpack_from(">d", data, place)[0]), place + 8
    if kind == _BOOLEAN:
        return bool(data[place]), place + 1
    if kind in (_STRING, _LONG_STRING):
        return _read_text(data, place, ">H" if kind == _STRING else ">I")
    if kind in (_NULL, _UNDEFINED):
        return None, place
    if kind == _DATE:
        return float(struct.unpack_from(">d", data, place)[0]), place + 10
    if kind in (_OBJECT, _ECMA_ARRAY):
        return _object(data, place + (4 if kind == _ECMA_ARRAY else 0), depth)
    if kind == _STRICT_ARRAY:
        (num,) = struct.unpack_from(">I", data, place)
        items, place = {}, place + 4
        for number in range(num):
            items[str(number)], place = _decode(data, place, depth + 1)
        return items, place
    raise ValueError(f"expected AMF0, found a value of type {kind}")


def _object(data: bytes, place: int, depth: int) -> tuple[Value, int]:
    fields: dict[str, Value] = {}
    while True:
        key, place = _read_text(data, place, ">H")
        if not key and data[place] == _END:
            return fields, place + 1
        fields[key], place = _decode(data, place, depth + 1)


def _read_text(data: bytes, place: int, size: str) -> tuple[str, int]:
    (length,) = struct.unpack_from(size, data, place)
    place += struct.calcsize(size)
    if place + length > len(data):
        raise IndexError
    return data[place : place + length].decode("utf-8", "replace"), place + length


SET_CHUNK_SIZE, ABORT, USER_CONTROL, WINDOW_SIZE = 1, 2, 4, 5
ACKNOWLEDGEMENT: Final = 3
AMF3_COMMAND, AMF0_DATA, AMF0_COMMAND = 17, 18, 20

CHUNK_BYTES: Final = 4096
"""Payload of the chunks that are sent."""

_FIRST_CHUNK_BYTES: Final = 128  # of both sides, until they say otherwise
_MAX_CHUNK_BYTES: Final = 0xFFFFFF
_EXTENDED: Final = 0xFFFFFF
_MAX_MESSAGE_BYTES: Final = 1 << 20  # answers of servers are small
_MAX_STREAMS: Final = 64
# Bytes of the message header by chunk type 0 to 3.
_HEADER_BYTES: Final = (11, 7, 3, 0)


@dataclass
class Message:
    """One message.

    Attributes:
        kind: Message type.
        stream_id: Message stream; 0 for the connection.
        time_ms: Timestamp.
        payload: Content.
    """

    kind: int
    stream_id: int
    time_ms: int
    payload: bytes


def chunks(message: Message, channel: int, chunk_bytes: int = CHUNK_BYTES) -> bytes:
    """Returns a message as chunks on a chunk stream (2 to 63), each with its full header."""
    time_ms = message.time_ms & 0xFFFFFFFF
    extended = struct.pack(">I", time_ms) if time_ms >= _EXTENDED else b""
    head = min(time_ms, _EXTENDED).to_bytes(3, "big") + len(message.payload).to_bytes(3, "big")
    head += struct.pack(">B", message.kind) + struct.pack("<I", message.stream_id)
    pieces = [bytes([channel]), head, extended, message.payload[:chunk_bytes]]
    for start in range(chunk_bytes, len(message.payload), chunk_bytes):
        pieces += [bytes([0xC0 | channel]), extended, message.payload[start : start + chunk_bytes]]
    return b"".join(pieces)


@dataclass
class _Incoming:
    """What is known of a chunk stream."""

    time_ms: int = 0
    delta_ms: int = 0
    size: int = 0
    kind: int = 0
    stream_id: int = 0
    is_extended: bool = False
    payload: bytes = b""


class ChunkReader:
    """Reads messages.

    Args:
        reader: The connection, behind the handshake.

    Attributes:
        num_bytes: Bytes read.
    """

    def __init__(self, reader: asyncio.StreamReader) -> None:
        self._reader = reader
        self._chunk_bytes = _FIRST_CHUNK_BYTES
        self._streams: dict[int, _Incoming] = {}
        self.num_bytes = 0

    async def message(self) -> Message:
        """Returns the next message.

        Raises:
            ValueError: The data is malformed, or a message too large.
            OSError: The connection broke.
            asyncio.IncompleteReadError: It was closed.
        """
        while True:
            incoming = await self._chunk()
            if len(incoming.payload) < incoming.size:
                continue
            message = Message(incoming.kind, incoming.stream_id, incoming.time_ms, incoming.payload)
            incoming.payload = b""
            if message.kind == SET_CHUNK_SIZE and len(message.payload) >= 4:
                self._chunk_bytes = min(max(1, int.from_bytes(message.payload[:4], "big")), _MAX_CHUNK_BYTES)
            elif message.kind == ABORT and len(message.payload) >= 4:
                self._streams.pop(int.from_bytes(message.payload[:4], "big"), None)
            else:
                return message

    async def _chunk(self) -> _Incoming:
        first = (await self._read(1))[0]
        channel = first & 0x3F
        if channel < 2:
            more = await self._read(channel + 1)
            channel = 64 + int.from_bytes(more, "little")
        if channel not in self._streams and len(self._streams) >= _MAX_STREAMS:
            raise ValueError("expected RTMP, found too many chunk streams")
        incoming = self._streams.setdefault(channel, _Incoming())
        await self._header(incoming, first >> 6)
        left = incoming.size - len(incoming.payload)
        incoming.payload += await self._read(min(left, self._chunk_bytes))
        return incoming

    async def _header(self, incoming: _Incoming, form: int) -> None:
        head = await self._read(_HEADER_BYTES[form])
        if form < 3:
            incoming.delta_ms = int.from_bytes(head[:3], "big")
            incoming.is_extended = incoming.delta_ms == _EXTENDED
        if form < 2:
            incoming.size, incoming.kind = int.from_bytes(head[3:6], "big"), head[6]
            incoming.payload = b""
            if incoming.size > _MAX_MESSAGE_BYTES:
                raise ValueError(f"expected RTMP, found a message of {incoming.size} bytes")
        if form == 0:
            incoming.stream_id, incoming.time_ms = int.from_bytes(head[7:11], "little"), 0
        if incoming.is_extended:
            incoming.delta_ms = int.from_bytes(await self._read(4), "big")
        if not incoming.payload:
            incoming.time_ms += incoming.delta_ms

    async def _read(self, num_bytes: int) -> bytes:
        self.num_bytes += num_bytes
        return await self._reader.readexactly(num_bytes)
