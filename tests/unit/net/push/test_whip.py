"""Publishing by WHIP: what a real WebRTC peer receives, and what is made of servers that refuse or lead elsewhere."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from itertools import islice

import pytest

from config import NetworkConfig
from errors import UrlRefusedError
from media.live.mpeg_ts import rtp_packets
from net.push.destination import Destinations, PushError, PushRefusedError
from net.push.whip import WhipPublisher, _allowed_candidates
from tests.unit.flashing_stream import FlashingStream
from tests.unit.net.push.whip_server import WhipServer, whip_server

pytestmark = pytest.mark.usefixtures("on_loopback")
PROFILE = b"\x64\x00\x1f"


@pytest.fixture
def server() -> Iterator[WhipServer]:
    with whip_server() as server:
        yield server


async def connect(server: WhipServer, timeout_s: float = 10.0) -> WhipPublisher:
    destination = Destinations(("http://127.0.0.1:*/whip",), NetworkConfig()).check(server.url)
    async with asyncio.timeout(timeout_s):
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


@pytest.mark.parametrize(("status", "error"), [(403, PushRefusedError), (503, PushError), (302, PushError)])
def test_connect_refusal_names_the_status(server: WhipServer, status: int, error: type[Exception]) -> None:
    server.status = status
    with pytest.raises(error, match=str(status)) as refused:
        asyncio.run(connect(server))
    assert "/whip" not in str(refused.value)


def test_connect_redirect_to_another_path_is_refused(server: WhipServer) -> None:
    server.status = 307
    with pytest.raises(UrlRefusedError, match="operator"):
        asyncio.run(connect(server))


def test_allowed_candidates_drops_private_addresses() -> None:
    from net.ssrf_guard import SsrfGuard

    lines = [
        f"a=candidate:1 1 udp 2130706431 {host} 5000 typ host\r\n"
        for host in ("127.0.0.1", "10.0.0.1", "169.254.169.254", "fd00::1", "secret.local", "a.example", "8.8.8.8")
    ]
    kept = _allowed_candidates("v=0\r\n" + "".join(lines), SsrfGuard(NetworkConfig()))
    assert kept == "v=0\r\n" + lines[-1]


def test_send_over_a_cut_connection_raises(server: WhipServer) -> None:
    async def publish() -> None:
        publisher = await connect(server)
        fragments = iter(FlashingStream())
        await publisher.send(*rtp_packets(next(fragments)))
        await asyncio.to_thread(server.cut)
        try:
            while True:
                await publisher.send(*rtp_packets(next(fragments)))
                await asyncio.sleep(0.05)
        finally:
            await publisher.close()

    with pytest.raises(PushError, match="cut off"):
        asyncio.run(asyncio.wait_for(publish(), 40))
