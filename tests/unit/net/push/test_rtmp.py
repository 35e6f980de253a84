"""Publishing to an RTMP server: what a real one receives, and what is made of servers that refuse, hang or lie."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Awaitable, Callable
from contextlib import closing
from itertools import islice
from pathlib import Path

import pytest
import uvloop

from config import NetworkConfig
from media.live.flv import FlvMuxer
from net.push import rtmp_messages
from net.push.destination import Destination, Destinations, PushError, PushRefusedError
from net.push.rtmp import RtmpPublisher
from net.push.rtmp_messages import AMF0_COMMAND, USER_CONTROL, ChunkReader, Message, chunks
from tests.ports import quiet_port
from tests.unit.flashing_stream import FlashingStream, file_skews
from tests.unit.net.push.receivers import rtmp_server
from tests.unit.net.web import tls_pair

SERVER_BYTES = bytes(1536)
Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def destination(port: int, path: str = "live/key", scheme: str = "rtmp") -> Destination:
    network = NetworkConfig(connect_timeout_s=5)
    return Destinations((f"{scheme}://127.0.0.1:*",), network).check(f"{scheme}://127.0.0.1:{port}/{path}")


async def publish(place: Destination, num_fragments: int, skipped: range = range(0)) -> None:
    publisher, muxer = await RtmpPublisher.connect(place), FlvMuxer()
    for number, fragment in enumerate(islice(FlashingStream(), num_fragments)):
        if number not in skipped:
            await publisher.send(muxer.mux(fragment))
    await publisher.close()


@pytest.mark.parametrize("skipped", [range(0), range(15, 23)])
def test_rtmp_publisher_real_server_receives_in_sync(tmp_path: Path, skipped: range) -> None:
    port, path = quiet_port(), tmp_path / "received.flv"
    with rtmp_server(port, path, "app/instance/key?auth=a/b") as server:
        asyncio.run(publish(destination(port, "app/instance/key?auth=a/b"), 50, skipped))
        server.wait(20)
    assert file_skews(path) == pytest.approx([0.0] * 3, abs=0.04)


def test_chunk_reader_inverts_chunks() -> None:
    """Also those behind the 4.6 hours that a timestamp of three bytes holds."""
    messages = [
        Message(9, 1, 40, bytes(range(256)) * 40),
        Message(8, 1, 0xFFFFFF - 1, b"sound"),
        Message(9, 1, 0xFFFFFF, bytes(5000)),
        Message(8, 1, 20_000_000, b"late"),
        Message(9, 1, 20_000_040, bytes(9000)),
    ]

    async def read() -> list[Message]:
        stream = asyncio.StreamReader()
        for message in messages:
            stream.feed_data(chunks(message, 4, 128))
        reader = ChunkReader(stream)
        return [await reader.message() for _ in messages]

    assert asyncio.run(read()) == messages


@pytest.mark.parametrize("value", [1.5, True, None, "text", {"a": 1.0, "b": {"c": "d"}}])
def test_amf_decode_inverts_encode(value: rtmp_messages.Value) -> None:
    assert rtmp_messages.decode(rtmp_messages.encode("name", value)) == ["name", value]


@pytest.mark.parametrize("data", [b"\x02\xff\xffx", b"\x00\x00", b"\x03" * 50, b"\x0a\xff\xff\xff\xff\x05", b"\x63"])
def test_amf_decode_malformed_data_is_an_error(data: bytes) -> None:
    with pytest.raises(ValueError, match="AMF0"):
        rtmp_messages.decode(data)


async def with_server(handler: Handler, place: Callable[[int], Destination] = destination) -> RtmpPublisher:
    """Connect to a server that does what `handler` does behind its handshake."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(1537)
        writer.write(b"\x03" + SERVER_BYTES + SERVER_BYTES)
        await reader.readexactly(1536)
        await handler(reader, writer)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        async with asyncio.timeout(5):
            return await RtmpPublisher.connect(place(server.sockets[0].getsockname()[1]))


def command(*values: rtmp_messages.Value) -> bytes:
    return chunks(Message(AMF0_COMMAND, 0, 0, rtmp_messages.encode(*values)), 3, 128)


def status(code: str, level: str = "status") -> bytes:
    return command("onStatus", 0.0, None, {"level": level, "code": code, "description": "live/key is in use"})


def test_connect_refusal_names_the_status_and_no_key() -> None:
    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(command("_result", 1.0, {}, {"code": "NetConnection.Connect.Success"}))
        writer.write(command("_result", 4.0, None, 1.0) + status("NetStream.Publish.BadName", "error"))
        await writer.drain()

    with pytest.raises(PushRefusedError, match=r"NetStream\.Publish\.BadName") as refused:
        asyncio.run(with_server(refuse))
    assert "key" not in str(refused.value).replace("stream key", "")


@pytest.mark.parametrize(
    "answer", [b"\x03" + bytes(40), b"\xff" * 4000, b"HTTP/1.1 400 Bad Request\r\n\r\n" * 40, command("_result"), b""]
)
def test_connect_nonsense_answer_is_an_error(answer: bytes) -> None:
    async def answers(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(answer)
        await writer.drain()
        writer.close()

    with pytest.raises(PushError):
        asyncio.run(with_server(answers))


async def test_send_answers_pings_and_notices_unpublish() -> None:
    pongs: list[bytes] = []

    async def ping(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(command("_result", 1.0, {}, {}) + command("_result", 4.0, None, 1.0))
        writer.write(status("NetStream.Publish.Start"))
        writer.write(chunks(Message(USER_CONTROL, 0, 0, b"\0\x06\1\2\3\4"), 2))
        client = ChunkReader(reader)
        while not pongs:
            message = await client.message()
            if message.kind == USER_CONTROL:
                pongs.append(message.payload)
        writer.write(status("NetStream.Unpublish.Success"))

    publisher = await with_server(ping)
    with pytest.raises(PushRefusedError, match="Unpublish"):
        while True:
            await publisher.send([(8, 0, b"sound")])
            await asyncio.sleep(0.01)
    assert pongs == [b"\0\x07\1\2\3\4"]


def test_close_after_a_reset_raises_nothing_under_uvloop() -> None:
    """Serve runs on uvloop, whose transports raise RuntimeError when they are written to after a reset."""

    async def reset(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(command("_result", 1.0, {}, {}) + command("_result", 4.0, None, 1.0))
        writer.write(status("NetStream.Publish.Start"))
        await writer.drain()
        await asyncio.sleep(0.1)
        linger = struct.pack("ii", 1, 0)  # closing sends a reset
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        writer.transport.abort()

    async def scene() -> None:
        publisher = await with_server(reset)
        with pytest.raises(PushError, match="cut off"):
            while True:
                await publisher.send([(8, 0, b"sound")])
                await asyncio.sleep(0.01)
        await publisher.close()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(scene())


def test_connect_url_without_a_key_opens_no_connection() -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        server.settimeout(0.1)
        with pytest.raises(PushRefusedError, match="app/key"):
            asyncio.run(RtmpPublisher.connect(destination(server.getsockname()[1], "app")))
        with pytest.raises(TimeoutError):
            server.accept()


def test_connect_rtmps_checks_the_certificate(tmp_path: Path) -> None:
    server_tls, client_tls = tls_pair(tmp_path, "ingest.example")
    names: list[str | None] = []
    server_tls.sni_callback = lambda connection, name, context: names.append(name)

    async def resolve(host: str, port: int) -> list[str]:
        return ["127.0.0.1"]

    async def scene(name: str) -> None:
        server = await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", 0, ssl=server_tls)
        async with server:
            port = server.sockets[0].getsockname()[1]
            places = Destinations((f"rtmps://{name}:*",), NetworkConfig(), resolve, client_tls)
            await RtmpPublisher.connect(places.check(f"rtmps://{name}:{port}/app/key"))

    with pytest.raises(PushError, match="cut off"):  # behind the TLS handshake
        asyncio.run(scene("ingest.example"))
    with pytest.raises(PushError, match="certificate"):
        asyncio.run(scene("other.example"))
    assert names == ["ingest.example", "other.example"]
