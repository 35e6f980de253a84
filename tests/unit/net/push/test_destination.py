"""Where streams may be pushed to, and that no address beyond that is ever connected to."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

import pytest
from pydantic import ValidationError

from lipwright.api.live.outputs.output import open_sink
from lipwright.config import LiveConfig, NetworkConfig
from lipwright.errors import UrlRefusedError
from lipwright.media.live.mp4_boxes import ParameterSets
from lipwright.net.push.destination import Destination, Destinations, PushError
from tests.unit.net.test_fetch import PRIVATE

SECRET = "sEcReT"
RULES = ("rtmps://*.video.example/live2", "rtmp://one.example:1935", "srt://srt.example:*", "https://whip.example/in")


def destinations(*rules: str, resolve: str = "8.8.8.8") -> Destinations:
    async def resolved(host: str, port: int) -> list[str]:
        if not resolve:
            raise OSError
        return [resolve]

    return Destinations(rules or RULES, NetworkConfig(connect_timeout_s=1), resolved)


def test_check_listed_destination_is_allowed() -> None:
    for url in (
        f"rtmps://a.video.example/live2/{SECRET}",
        f"rtmps://a.b.video.example:443/live2/{SECRET}?x=1",
        *(f"rtmp://ONE.example/app/{SECRET}", f"srt://srt.example:9000?streamid={SECRET}"),
        f"https://whip.example/in/{SECRET}",
    ):
        destination = destinations().check(url)
        assert SECRET not in str(destination) + repr(str(destination))


@pytest.mark.parametrize(
    "url",
    [
        *(f"rtmps://video.example/live2/{SECRET}", f"rtmps://xvideo.example/live2/{SECRET}"),
        *(f"rtmps://a.video.example.evil.example/live2/{SECRET}", f"rtmps://a.video.example/live22/{SECRET}"),
        *(f"rtmps://a.video.example/live2/../admin/{SECRET}", f"https://whip.example/in/%2e%2e/{SECRET}"),
        *(f"rtmps://a.video.example:1935/live2/{SECRET}", f"rtmp://a.video.example/live2/{SECRET}"),
        *(f"rtmp://one.example:80/app/{SECRET}", f"rtmp://user:{SECRET}@one.example/app/key"),
        *(f"rtmp://{SECRET}@one.example/app/key", f"rtmp://one.example\\@evil.example/app/{SECRET}"),
        *(f"http://whip.example/in/{SECRET}", f"https://whip.example:8443/in/{SECRET}"),
        *(f"srt://other.example:9000?streamid={SECRET}", f"srt://srt.example?streamid={SECRET}"),
        *(f"srt://srt.example:9000?streamid=#!::r={SECRET}", f"file:///etc/{SECRET}", f"tcp://one.example:1/{SECRET}"),
        *(f"rtmps://{host}/live2/{SECRET}" for host in ("127.0.0.1", "0x7f000001", "2130706433", "localhost", "[::1]")),
        *(f"rtmp://one.example/app/{SECRET}\r\nHost: evil", f"rtmp:///app/{SECRET}", SECRET, f"rtmp://[::1/{SECRET}"),
    ],
)
def test_check_other_destination_is_refused_without_its_key(url: str) -> None:
    with pytest.raises(UrlRefusedError) as refused:
        destination = destinations().check(url)
        asyncio.run(destination.addresses())  # an SRT URL without a port is refused here
    assert SECRET not in str(refused.value)


def test_check_without_push_destinations_is_refused() -> None:
    with pytest.raises(UrlRefusedError, match=r"live\.push_destinations"):
        Destinations((), NetworkConfig()).check(f"rtmp://one.example/app/{SECRET}")


@pytest.mark.parametrize("rule", ["a.example", "ftp://a.example", "rtmp://", "rtmp://a b/", "rtmp://*", "rtmp://x/?k"])
def test_live_config_invalid_push_destination_is_rejected(rule: str) -> None:
    with pytest.raises(ValidationError):
        LiveConfig(push_destinations=(rule,))


def _watched(name: str, addresses: list[object]) -> Callable[..., object]:
    def watched(self: socket.socket, *args: object) -> object:
        if self.family != socket.AF_UNIX:
            addresses.append(args[-1])
        return getattr(super(socket.socket, self), name)(*args)

    return watched


@pytest.mark.parametrize("scheme", ["rtmp", "rtmps", "srt", "http", "https"])
def test_open_sink_private_address_is_not_connected_to(scheme: str, monkeypatch: pytest.MonkeyPatch) -> None:
    connected: list[object] = []
    for name in ("connect", "connect_ex", "sendto"):
        monkeypatch.setattr(socket.socket, name, _watched(name, connected))
    for address in PRIVATE:
        rules = destinations(f"{scheme}://*.video.example:*", resolve=address)
        destination = rules.check(f"{scheme}://a.video.example:19350/app/{SECRET}")
        with pytest.raises(UrlRefusedError, match="private"):
            asyncio.run(opened(destination))
    assert connected == []


def test_addresses_of_a_listed_host_may_be_private() -> None:
    destination = destinations("rtmp://ingest.internal", resolve="10.1.2.3").check("rtmp://ingest.internal/app/key")
    assert [str(address) for address in asyncio.run(destination.addresses())] == ["10.1.2.3"]
    unknown = destinations(resolve="").check("rtmp://one.example/app/key")
    with pytest.raises(PushError, match="no address"):
        asyncio.run(unknown.addresses())


async def opened(destination: Destination) -> None:
    async with asyncio.timeout(10):
        sink = await open_sink(destination, None, ParameterSets(b"\x67\x42\xc0\x1e", b"\x68"), 2.0)
        await sink.close()
