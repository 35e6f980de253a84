"""RTMP, SRT and WHIP: what real servers receive, and what is made of servers that refuse, hang or lie."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing
from itertools import chain, islice
from pathlib import Path

import pytest
import uvloop

from lipwright.config import NetworkConfig
from lipwright.errors import UrlRefusedError
from lipwright.media.live.encoder import LiveFragment
from lipwright.media.live.flv import FlvMuxer
from lipwright.media.live.mpeg_ts import TsMuxer, rtp_packets
from lipwright.net.push import rtmp_messages, srt
from lipwright.net.push.destination import Destination, Destinations, PushError, PushRefusedError
from lipwright.net.push.rtmp import RtmpPublisher
from lipwright.net.push.rtmp_messages import AMF0_COMMAND, USER_CONTROL, ChunkReader, Message, chunks
from lipwright.net.push.srt import SrtCaller, SrtOptions
from lipwright.net.push.whip import WhipPublisher, _allowed_candidates
from lipwright.net.ssrf_guard import SsrfGuard
from tests.ports import quiet_port
from tests.unit.flashing_stream import FlashingStream, file_skews
from tests.unit.net.push.receivers import rtmp_server, srt_listener
from tests.unit.net.push.whip_server import WhipServer, whip_server
from tests.unit.net.web import tls_pair
from tests.waiting import until

RtmpHandler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def rtmp_destination(port: int, path: str = "live/key") -> Destination:
    network = NetworkConfig(connect_timeout_s=5)
    return Destinations(("rtmp://127.0.0.1:*",), network).check(f"rtmp://127.0.0.1:{port}/{path}")


def srt_destination(port: int, query: str = "") -> Destination:
    return Destinations(("srt://127.0.0.1:*",), NetworkConfig()).check(f"srt://127.0.0.1:{port}?{query}")


def fragments_with_a_gap() -> Iterator[LiveFragment]:
    """Three seconds, of which more than half a second was dropped."""
    stream = iter(FlashingStream())
    return chain(islice(stream, 15), islice(stream, 8, 21))


def test_rtmp_publisher_real_server_receives_in_sync(tmp_path: Path) -> None:
    port, path = quiet_port(), tmp_path / "received.flv"

    async def publish() -> None:
        place = rtmp_destination(port, "app/instance/key?auth=a/b")
        publisher, muxer = await RtmpPublisher.connect(place), FlvMuxer()
        for fragment in fragments_with_a_gap():
            await publisher.send(muxer.mux(fragment))
        await publisher.close()

    with rtmp_server(port, path, "app/instance/key?auth=a/b") as server:
        asyncio.run(publish())
        server.wait(20)
    assert file_skews(path) == pytest.approx([0.0] * 2, abs=0.04)


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


async def with_server(handler: RtmpHandler) -> RtmpPublisher:
    """Connect to a server that does what `handler` does behind its handshake."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(1537)
        writer.write(b"\x03" + bytes(2 * 1536))
        await reader.readexactly(1536)
        await handler(reader, writer)

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server, asyncio.timeout(5):
        return await RtmpPublisher.connect(rtmp_destination(server.sockets[0].getsockname()[1]))


async def send_until_error(publisher: RtmpPublisher) -> None:
    while True:
        await publisher.send([(8, 0, b"sound")])
        await asyncio.sleep(0.01)


def command(*values: rtmp_messages.Value) -> bytes:
    return chunks(Message(AMF0_COMMAND, 0, 0, rtmp_messages.encode(*values)), 3, 128)


def status(code: str, level: str = "status") -> bytes:
    return command("onStatus", 0.0, None, {"level": level, "code": code, "description": "live/key is in use"})


CREATED = command("_result", 1.0, {}, {}) + command("_result", 4.0, None, 1.0)
STARTED = CREATED + status("NetStream.Publish.Start")


def answering(data: bytes, closes: bool = False) -> RtmpHandler:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(data)
        await writer.drain()
        if closes:
            writer.close()

    return answer


def test_connect_refusal_names_the_status_and_no_key() -> None:
    with pytest.raises(PushRefusedError, match=r"NetStream\.Publish\.BadName") as refused:
        asyncio.run(with_server(answering(CREATED + status("NetStream.Publish.BadName", "error"))))
    assert "key" not in str(refused.value).replace("stream key", "")


@pytest.mark.parametrize(
    "answer", [b"\x03" + bytes(40), b"\xff" * 4000, b"HTTP/1.1 400 Bad Request\r\n\r\n" * 40, command("_result"), b""]
)
def test_connect_nonsense_answer_is_an_error(answer: bytes) -> None:
    with pytest.raises(PushError):
        asyncio.run(with_server(answering(answer, closes=True)))


async def test_send_answers_pings_and_notices_unpublish() -> None:
    pongs: list[bytes] = []

    async def ping(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(STARTED + chunks(Message(USER_CONTROL, 0, 0, b"\0\x06\1\2\3\4"), 2))
        client = ChunkReader(reader)
        while not pongs:
            message = await client.message()
            if message.kind == USER_CONTROL:
                pongs.append(message.payload)
        writer.write(status("NetStream.Unpublish.Success"))

    publisher = await with_server(ping)
    with pytest.raises(PushRefusedError, match="Unpublish"):
        await send_until_error(publisher)
    assert pongs == [b"\0\x07\1\2\3\4"]


def test_close_after_a_reset_raises_nothing_under_uvloop() -> None:
    """Serve runs on uvloop, whose transports raise RuntimeError when they are written to after a reset."""

    async def reset(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(STARTED)
        await writer.drain()
        await asyncio.sleep(0.1)
        linger = struct.pack("ii", 1, 0)  # closing sends a reset
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        writer.transport.abort()

    async def scene() -> None:
        publisher = await with_server(reset)
        with pytest.raises(PushError, match="cut off"):
            await send_until_error(publisher)
        await publisher.close()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(scene())


def test_connect_url_without_a_key_opens_no_connection() -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        server.settimeout(0.1)
        with pytest.raises(PushRefusedError, match="app/key"):
            asyncio.run(RtmpPublisher.connect(rtmp_destination(server.getsockname()[1], "app")))
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


needs_libsrt = pytest.mark.skipif(srt._library() is None, reason="libsrt is not installed")
PASSPHRASE = "correct horse battery"


@needs_libsrt
def test_srt_caller_real_listener_receives_in_sync(tmp_path: Path) -> None:
    port, path = quiet_port(), tmp_path / "received.ts"
    query = f"streamid=%23!::r=live/a+b,m=publish&passphrase={PASSPHRASE.replace(' ', '%20')}&latency=100"

    async def send() -> None:
        caller, muxer = await SrtCaller.connect(srt_destination(port, query), 5.0), TsMuxer()
        for fragment in fragments_with_a_gap():
            data = muxer.mux(fragment)
            assert len(data) % 188 == 0  # packets of ISO/IEC 13818-1
            await caller.send(data)
            await asyncio.sleep(0.005)
        await asyncio.sleep(0.3)  # the latency of the listener
        await caller.close()

    with srt_listener(port, path, f"&passphrase={PASSPHRASE}") as listener:
        asyncio.run(send())
        listener.wait(20)
    assert file_skews(path) == pytest.approx([0.0] * 2, abs=0.04)


@needs_libsrt
def test_connect_wrong_passphrase_is_refused(tmp_path: Path) -> None:
    port = quiet_port()
    listener = srt_listener(port, tmp_path / "received.ts", f"&passphrase={PASSPHRASE}")
    with listener, pytest.raises(PushRefusedError, match="passphrase") as refused:
        asyncio.run(SrtCaller.connect(srt_destination(port, "passphrase=wrong-wrong-wrong"), 5.0))
    assert "wrong-" not in str(refused.value)


@needs_libsrt
def test_connect_without_listener_is_a_push_error() -> None:
    with pytest.raises(PushError, match="connection failed"):
        asyncio.run(SrtCaller.connect(srt_destination(quiet_port()), 0.5))


def test_srt_options_are_parsed_or_refused() -> None:
    options = SrtOptions.parse(srt_destination(9000, "streamid=a%2Fb&passphrase=0123456789&pbkeylen=32"))
    assert (options.stream_id, options.passphrase, options.key_bytes) == ("a/b", "0123456789", 32)
    assert "0123456789" not in repr(options)
    invalid = ["passphrase=short", "pbkeylen=17", "latency=2000000", "latency=-1", "mode=listener", "pkt_size=1316"]
    for query in (*invalid, f"streamid={'x' * 600}", f"passphrase={'x' * 80}"):
        with pytest.raises(PushRefusedError, match="expected"):
            SrtOptions.parse(srt_destination(9000, query))


def test_connect_without_libsrt_names_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(srt, "_library", lambda: None)
    with pytest.raises(PushRefusedError, match="libsrt"):
        asyncio.run(SrtCaller.connect(srt_destination(9000), 1.0))


PROFILE = b"\x64\x00\x1f"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[WhipServer]:
    """A server; both ends of the WebRTC connection, which are in this process, use no other interface."""
    monkeypatch.setattr("aioice.ice.get_host_addresses", lambda use_ipv4, use_ipv6: ["127.0.0.1"])
    with whip_server() as server:
        yield server


async def connect(server: WhipServer) -> WhipPublisher:
    destination = Destinations(("http://127.0.0.1:*/whip",), NetworkConfig()).check(server.url)
    async with asyncio.timeout(10):
        return await WhipPublisher.connect(destination, "token", PROFILE)


async def test_whip_publisher_peer_receives_in_sync(server: WhipServer) -> None:
    publisher = await connect(server)
    for fragment in islice(FlashingStream(), 20):
        await publisher.send(*rtp_packets(fragment))
        await asyncio.sleep(fragment.duration_seconds)  # the peer's jitter buffer holds 16 packets of sound
    await asyncio.to_thread(server.until_frames, 35)
    await publisher.close()
    assert server.num_deleted == 1
    assert server.tokens == ["Bearer token"]
    assert f"profile-level-id={PROFILE.hex()}" in server.offers[0]
    assert server.skews() == pytest.approx([0.0], abs=0.04)


@pytest.mark.parametrize(
    ("code", "error"), [(302, PushError), (503, PushError), (403, PushRefusedError), (307, UrlRefusedError)]
)
def test_connect_refusal_names_the_status(server: WhipServer, code: int, error: type[Exception]) -> None:
    """307 leads to another path, which the operator does not allow."""
    server.status = code
    with pytest.raises(error, match="operator" if code == 307 else str(code)) as refused:
        asyncio.run(connect(server))
    assert "/whip" not in str(refused.value)


def test_allowed_candidates_drops_private_addresses() -> None:
    lines = [
        f"a=candidate:1 1 udp 2130706431 {host} 5000 typ host\r\n"
        for host in ("127.0.0.1", "10.0.0.1", "169.254.169.254", "fd00::1", "secret.local", "a.example", "8.8.8.8")
    ]
    kept = _allowed_candidates("v=0\r\n" + "".join(lines), SsrfGuard(NetworkConfig()))
    assert kept == "v=0\r\n" + lines[-1]


async def test_close_without_answer_closes_the_connection(server: WhipServer) -> None:
    publisher = await connect(server)
    server.may_delete.clear()
    closing = asyncio.create_task(publisher.close())
    await until(lambda: server.num_deleted)
    closing.cancel()
    await asyncio.wait([closing])
    assert publisher._peer.connectionState == "closed"
    server.may_delete.set()
