"""Chunks of RTMP (Adobe, "Real-Time Messaging Protocol (RTMP) specification" 1.0, section 5.3)."""

from __future__ import annotations

import asyncio
import struct
from dataclasses import dataclass
from typing import Final

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
