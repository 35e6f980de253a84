"""Publishes to an RTMP or RTMPS server (Adobe, "Real-Time Messaging Protocol (RTMP) specification" 1.0).

Not by FFmpeg, whose client resolves names itself, so that it could be led to a private address, and blocks Python while
it waits for the network.
"""

from __future__ import annotations

import asyncio
import os
import re
import ssl
import struct
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Final

from lipwright.net.push import rtmp_messages
from lipwright.net.push.destination import Destination, PushError, PushRefusedError, push_errors
from lipwright.net.push.rtmp_messages import (
    ACKNOWLEDGEMENT,
    AMF0_COMMAND,
    AMF0_DATA,
    AMF3_COMMAND,
    CHUNK_BYTES,
    SET_CHUNK_SIZE,
    USER_CONTROL,
    WINDOW_SIZE,
    ChunkReader,
    Message,
    chunks,
)

_HANDSHAKE_BYTES: Final = 1536
_VERSION: Final = b"\x03"
_CONTROL_CHANNEL, _COMMAND_CHANNEL, _MEDIA_CHANNEL = 2, 3, 4
_PING, _PONG = 6, 7
_CONNECT, _RELEASE, _ANNOUNCE, _CREATE, _PUBLISH, _DELETE = range(1, 7)
_MAX_UNSENT_BYTES: Final = 256 * 1024  # in user space; then `send` waits
_CLOSE_S: Final = 2.0
_STATUS: Final = re.compile(r"[A-Za-z0-9.]{1,80}")
_AGENT: Final = "FMLE/3.0 (compatible; Lipwright)"  # some servers expect an encoder that calls itself FMLE


class RtmpPublisher:
    """A published stream; made by `connect`."""

    def __init__(self, destination: Destination, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._destination, self._writer = destination, writer
        self._socket_reader, self._chunks = reader, ChunkReader(reader)
        self._app, self._key = _names(destination)
        self._stream_id = 0
        self._answers: asyncio.Task[None] | None = None
        self._window_bytes = self._num_acknowledged = 0

    @classmethod
    async def connect(cls, destination: Destination) -> RtmpPublisher:
        """Connects to a checked address and starts to publish. The caller bounds the time.

        Raises:
            PushError: The server cannot be reached, or does not speak RTMP.
            PushRefusedError: The server does not accept the stream.
            UrlRefusedError: The addresses of the host are not allowed.
        """
        _names(destination)
        reader, writer = await _open_connection(destination)
        publisher = cls(destination, reader, writer)
        try:
            await publisher._start()
        except BaseException:
            writer.transport.abort()
            raise
        return publisher

    async def send(self, messages: Iterable[tuple[int, int, bytes]]) -> None:
        """Sends audio and video messages: type (8 or 9), time in ms and content. Waits while the network is slow.

        Raises:
            PushError: The connection broke, or the server ended the stream.
        """
        with push_errors(self._destination):
            assert self._answers is not None
            if self._answers.done():
                self._answers.result()
            self._write(*(Message(kind, self._stream_id, time_ms, data) for kind, time_ms, data in messages))
            await self._writer.drain()

    async def close(self) -> None:
        """Ends the stream and closes the connection, within two seconds."""
        if self._answers is not None:
            self._answers.cancel()
            await asyncio.gather(self._answers, return_exceptions=True)
        with suppress(OSError, TimeoutError):
            self._command("FCUnpublish", _DELETE, None, self._key)
            self._command("deleteStream", _DELETE, None, self._stream_id)
            async with asyncio.timeout(_CLOSE_S):
                await self._writer.drain()
                self._writer.close()
                await self._writer.wait_closed()
        self._writer.transport.abort()

    async def _start(self) -> None:
        with push_errors(self._destination):
            await self._handshake()
            self._writer.transport.set_write_buffer_limits(_MAX_UNSENT_BYTES)
            self._write(Message(SET_CHUNK_SIZE, 0, 0, struct.pack(">I", CHUNK_BYTES)))
            url = f"{self._destination}/{self._app}"
            about = {"app": self._app, "type": "nonprivate", "flashVer": _AGENT, "tcUrl": url}
            self._command("connect", _CONNECT, about)
            await self._result(_CONNECT)
            self._command("releaseStream", _RELEASE, None, self._key)
            self._command("FCPublish", _ANNOUNCE, None, self._key)
            self._command("createStream", _CREATE, None)
            stream_id = (await self._result(_CREATE))[3:4]
            if not stream_id or not isinstance(stream_id[0], float):
                raise ValueError("expected the number of a stream")
            self._stream_id = int(stream_id[0])
            self._command("publish", _PUBLISH, None, self._key, "live", stream_id=self._stream_id)
            await self._result(_PUBLISH)
            about = {"videocodecid": "avc1", "audiocodecid": "mp4a", "encoder": "Lipwright"}
            data = rtmp_messages.encode("@setDataFrame", "onMetaData", about)
            self._write(Message(AMF0_DATA, self._stream_id, 0, data))
        self._answers = asyncio.create_task(self._listen())

    async def _handshake(self) -> None:
        """Section 5.2, with the simple form of random bytes."""
        self._writer.write(_VERSION + bytes(8) + os.urandom(_HANDSHAKE_BYTES - 8))
        if await self._socket_reader.readexactly(1) != _VERSION:
            raise ValueError("expected RTMP version 3")
        self._writer.write(await self._socket_reader.readexactly(_HANDSHAKE_BYTES))
        await self._socket_reader.readexactly(_HANDSHAKE_BYTES)

    async def _result(self, transaction: int) -> list[rtmp_messages.Value]:
        """Returns the answer to a command; for `publish`, the status that it has begun."""
        while True:
            answer = await self._answer()
            self._check(answer)
            if transaction == _PUBLISH and _code(answer) == "NetStream.Publish.Start":
                return answer
            if answer[:2] == ["_result", float(transaction)]:
                return answer

    async def _listen(self) -> None:
        while True:
            self._check(await self._answer())

    def _check(self, answer: list[rtmp_messages.Value]) -> None:
        """Raises PushRefusedError if the server ends or refuses the stream. Only its status is quoted, not its text."""
        failed = answer[:1] == ["_error"] and answer[1:2] in ([float(_CONNECT)], [float(_CREATE)], [float(_PUBLISH)])
        about = answer[3] if len(answer) > 3 and isinstance(answer[3], Mapping) else {}
        ended = _code(answer).endswith((".Unpublish.Success", ".Connect.Closed"))
        if failed or about.get("level") == "error" or ended or answer[:1] == ["close"]:
            status = _STATUS.match(_code(answer)) if _code(answer) else None
            raise PushRefusedError(
                f"{self._destination}: the server does not accept the stream ({status[0] if status else 'no reason'}). "
                "Check the application and the stream key."
            )

    async def _answer(self) -> list[rtmp_messages.Value]:
        """Returns the next command of the server, and does what its control messages ask for."""
        while True:
            message = await self._chunks.message()
            if message.kind == AMF0_COMMAND:
                return rtmp_messages.decode(message.payload)
            if message.kind == AMF3_COMMAND:
                return rtmp_messages.decode(message.payload[1:])
            if message.kind == WINDOW_SIZE:
                self._window_bytes = int.from_bytes(message.payload[:4], "big")
            elif message.kind == USER_CONTROL and message.payload[:2] == struct.pack(">H", _PING):
                self._write(Message(USER_CONTROL, 0, 0, struct.pack(">H", _PONG) + message.payload[2:6]))
            if 0 < self._window_bytes <= self._chunks.num_bytes - self._num_acknowledged:
                self._num_acknowledged = self._chunks.num_bytes
                self._write(Message(ACKNOWLEDGEMENT, 0, 0, struct.pack(">I", self._num_acknowledged & 0xFFFFFFFF)))

    def _command(self, name: str, transaction: int, *values: rtmp_messages.Value, stream_id: int = 0) -> None:
        self._write(Message(AMF0_COMMAND, stream_id, 0, rtmp_messages.encode(name, transaction, *values)))

    def _write(self, *messages: Message) -> None:
        if self._writer.transport.is_closing():  # uvloop would raise RuntimeError
            raise ConnectionResetError("the connection is closed")
        self._writer.write(b"".join(chunks(message, _channel(message)) for message in messages))


def _channel(message: Message) -> int:
    if message.kind == AMF0_COMMAND:
        return _COMMAND_CHANNEL
    return _MEDIA_CHANNEL if message.stream_id else _CONTROL_CHANNEL


def _code(answer: list[rtmp_messages.Value]) -> str:
    """Returns the status code of an answer, such as NetStream.Publish.BadName; empty if there is none."""
    about = answer[3] if len(answer) > 3 else None
    code = about.get("code") if isinstance(about, Mapping) else None
    return code if isinstance(code, str) else ""


def _names(destination: Destination) -> tuple[str, str]:
    """Returns application and stream key; PushRefusedError if the URL has no two of them."""
    path, mark, query = destination.target.path.decode("ascii").partition("?")
    app, _, key = path.strip("/").rpartition("/")
    if not app or not key:
        raise PushRefusedError(f"{destination}: expected a URL such as rtmps://host/app/key.")
    return app, key + mark + query


async def _open_connection(destination: Destination) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Connects to the first address that responds; TLS checks the name."""
    target = destination.target
    tls = destination.guard.tls if target.scheme == "rtmps" else None
    addresses = await destination.addresses()
    timeout_s = destination.guard.network.connect_timeout_s / len(addresses)
    for address in addresses:
        try:
            async with asyncio.timeout(timeout_s):
                return await asyncio.open_connection(
                    str(address), target.port, ssl=tls, server_hostname=target.host if tls else None
                )
        except ssl.SSLCertVerificationError as error:
            raise PushError(f"{destination}: connection failed (certificate: {error.verify_message}).") from error
        except (OSError, TimeoutError):
            continue
    raise PushError(f"{destination}: connection failed.")
