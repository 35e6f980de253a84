"""Sending to an SRT listener: what a real one receives, and what is made of one that refuses or is not there."""

from __future__ import annotations

import asyncio
from itertools import islice
from pathlib import Path

import pytest

from config import NetworkConfig
from media.live.mpeg_ts import PACKET_BYTES, TsMuxer
from net.push import srt
from net.push.destination import Destination, Destinations, PushError, PushRefusedError
from net.push.srt import SrtCaller, SrtOptions
from tests.ports import quiet_port
from tests.unit.flashing_stream import FlashingStream, file_skews
from tests.unit.net.push.receivers import srt_listener

needs_libsrt = pytest.mark.skipif(srt._library() is None, reason="libsrt is not installed")
PASSPHRASE = "correct horse battery"


def destination(port: int, query: str = "") -> Destination:
    return Destinations(("srt://127.0.0.1:*",), NetworkConfig()).check(f"srt://127.0.0.1:{port}?{query}")


async def send(place: Destination, num_fragments: int, skipped: range = range(0)) -> None:
    caller, muxer = await SrtCaller.connect(place, 5.0), TsMuxer()
    for number, fragment in enumerate(islice(FlashingStream(), num_fragments)):
        if number not in skipped:
            data = muxer.mux(fragment)
            assert len(data) % PACKET_BYTES == 0
            await caller.send(data)
            await asyncio.sleep(0.005)
    await asyncio.sleep(0.3)  # the latency of the listener
    await caller.close()


@needs_libsrt
@pytest.mark.parametrize("skipped", [range(0), range(15, 23)])
def test_srt_caller_real_listener_receives_in_sync(tmp_path: Path, skipped: range) -> None:
    port, path = quiet_port(), tmp_path / "received.ts"
    with srt_listener(port, path, f"&passphrase={PASSPHRASE}") as listener:
        query = f"streamid=%23!::r=live/a+b,m=publish&passphrase={PASSPHRASE.replace(' ', '%20')}&latency=100"
        asyncio.run(send(destination(port, query), 50, skipped))
        listener.wait(20)
    assert file_skews(path) == pytest.approx([0.0] * 3, abs=0.04)


@needs_libsrt
def test_connect_wrong_passphrase_is_refused(tmp_path: Path) -> None:
    port = quiet_port()
    with (
        srt_listener(port, tmp_path / "received.ts", f"&passphrase={PASSPHRASE}"),
        pytest.raises(PushRefusedError, match="passphrase") as refused,
    ):
        asyncio.run(SrtCaller.connect(destination(port, "passphrase=wrong-wrong-wrong"), 5.0))
    assert "wrong-" not in str(refused.value)


@needs_libsrt
def test_connect_without_listener_is_a_push_error() -> None:
    with pytest.raises(PushError, match="connection failed"):
        asyncio.run(SrtCaller.connect(destination(quiet_port()), 0.5))


@pytest.mark.parametrize(
    "query",
    [
        *("passphrase=short", "pbkeylen=17", "latency=2000000", "latency=-1", "mode=listener"),
        *("pkt_size=1316", f"streamid={'x' * 600}", f"passphrase={'x' * 80}"),
    ],
)
def test_srt_options_invalid_value_is_refused(query: str) -> None:
    with pytest.raises(PushRefusedError, match="expected"):
        SrtOptions.parse(destination(9000, query))


def test_srt_options_repr_has_no_passphrase() -> None:
    options = SrtOptions.parse(destination(9000, "streamid=a%2Fb&passphrase=0123456789&pbkeylen=32"))
    assert (options.stream_id, options.passphrase, options.key_bytes) == ("a/b", "0123456789", 32)
    assert "0123456789" not in repr(options)


def test_connect_without_libsrt_names_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(srt, "_library", lambda: None)
    with pytest.raises(PushRefusedError, match="libsrt"):
        asyncio.run(SrtCaller.connect(destination(9000), 1.0))
