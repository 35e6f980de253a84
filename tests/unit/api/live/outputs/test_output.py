"""An output of a session: it comes back after its server was gone, and ends where trying again does not help."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import av
import pytest

from lipwright.api.live.outputs import output as output_module
from lipwright.api.live.outputs.session_outputs import SessionOutputs
from lipwright.api.live.protocol import StartOutput
from lipwright.api.live.viewers import FragmentQueue
from lipwright.config import LiveConfig, NetworkConfig
from lipwright.errors import NotFoundError, OptionError, UrlRefusedError
from lipwright.media.live.encoder import LiveFragment
from lipwright.net.push import srt
from lipwright.net.push.destination import Destinations, PushError
from tests.ports import quiet_port
from tests.unit.api.live.outputs.pushed import LOOPBACK, measure
from tests.unit.flashing_stream import FlashingStream, file_skews
from tests.unit.net.push.receivers import rtmp_server, srt_listener, start_seconds
from tests.unit.net.push.whip_server import whip_server
from tests.waiting import until

SECRET = "sEcReT"


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Outputs reconnect at once, and both ends of a WebRTC connection, in this process, use loopback only."""
    monkeypatch.setattr(output_module, "_FIRST_DELAY_S", 0.05)
    monkeypatch.setattr(output_module, "_MAX_DELAY_S", 0.2)
    monkeypatch.setattr("aioice.ice.get_host_addresses", lambda use_ipv4, use_ipv6: ["127.0.0.1"])


class Session:
    """Outputs that are offered a stream, and the events that the client receives."""

    def __init__(self, live: LiveConfig | None, speed: float) -> None:
        self.speed, self.offered_seconds = speed, 0.0
        self.events: list[dict[str, Any]] = []
        destinations = Destinations(LOOPBACK, NetworkConfig(connect_timeout_s=2))
        self.outputs = SessionOutputs(destinations, live or LiveConfig(), self._tell)

    async def _tell(self, text: str) -> None:
        self.events.append(json.loads(text))

    @property
    def states(self) -> list[str]:
        return [event["state"] for event in self.events]

    async def until(self, condition: Callable[[], bool]) -> None:
        await until(condition)

    async def offer(self) -> None:
        for fragment in FlashingStream():
            self.outputs.offer(fragment)
            self.offered_seconds = fragment.start_seconds + fragment.duration_seconds
            await asyncio.sleep(fragment.duration_seconds / self.speed)


def start(url: str) -> StartOutput:
    return StartOutput(type="output.start", url=url, event_id="e1")


@asynccontextmanager
async def running(live: LiveConfig | None = None, speed: float = 1.0) -> AsyncIterator[Session]:
    session = Session(live, speed)
    offering = asyncio.create_task(session.offer())
    try:
        yield session
    finally:
        offering.cancel()
        await session.outputs.close()


NO_SRT = pytest.mark.skipif(srt._library() is None, reason="libsrt is not installed")


# libsrt takes five seconds to find out that its peer is gone.
@pytest.mark.parametrize("scheme", ["rtmp", pytest.param("srt", marks=[NO_SRT, pytest.mark.endurance])])
async def test_a_stream_comes_back_after_its_server_was_gone(tmp_path: Path, scheme: str) -> None:
    port, serve = quiet_port(), rtmp_server if scheme == "rtmp" else srt_listener
    first, second = (tmp_path / f"{name}.{'flv' if scheme == 'rtmp' else 'ts'}" for name in ("first", "second"))
    url = f"{scheme}://127.0.0.1:{port}" + (f"/live/{SECRET}" if scheme == "rtmp" else f"?streamid={SECRET}")

    async with running(speed=20.0) as session:
        with serve(port, first):
            session.outputs.start(start(url))
            await session.until(lambda: first.exists() and first.stat().st_size > 12_000)
        await session.until(lambda: "reconnecting" in session.states)
        with serve(port, second) as server:
            await session.until(lambda: session.states[-1] == "live")
            await session.until(lambda: second.exists() and second.stat().st_size > 12_000)
            await session.outputs.stop("output-1")
            await asyncio.to_thread(server.wait, 20)

    assert [session.states[0], session.states[-1]] == ["connecting", "ended"]
    assert session.events[-1]["num_reconnects"] == 1
    assert {event["event_id"] for event in session.events} == {"e1"}
    assert SECRET not in str(session.events)
    assert max(abs(skew) for skew in file_skews(second)) < 0.04
    with av.open(str(first)) as container:
        first_seconds = len([packet for packet in container.demux(video=0) if packet.size]) / 25
    assert start_seconds(second) > start_seconds(first) + first_seconds, "time goes on where it was"


async def test_dropped_seconds_after_an_outage_are_its_length(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that closes the first connection while a fragment is sent, and refuses others for a while."""
    sent: list[LiveFragment] = []
    outage = asyncio.Event()

    class LossySink:
        async def send(self, fragment: LiveFragment) -> None:
            if outage.is_set():
                raise PushError("the connection broke")
            sent.append(fragment)

        async def close(self) -> None:
            pass

    async def open_sink(*_: object) -> LossySink:
        if outage.is_set():
            raise PushError("not reachable")
        return LossySink()

    monkeypatch.setattr(output_module, "open_sink", open_sink)
    async with running(LiveConfig(push_buffer_seconds=1.0), speed=8.0) as session:
        session.outputs.start(start("rtmp://127.0.0.1:1935/live/x"))
        await session.until(lambda: len(sent) > 12)
        num = len(sent)
        outage.set()
        await session.until(lambda: session.states[-1] == "reconnecting")
        lost_at = session.offered_seconds
        await session.until(lambda: session.offered_seconds > lost_at + 3.2)  # more than the queue holds
        outage.clear()
        await session.until(lambda: len(sent) > num + 5)
        (listed,) = json.loads(session.outputs.describe())["outputs"]
        gap = sent[num].start_seconds - sent[num - 1].start_seconds - sent[num - 1].duration_seconds
        assert gap > 2
        assert listed["dropped_seconds"] == pytest.approx(gap, abs=0.02)
        live = [event for event in session.events if event["state"] == "live"]
        assert [event["dropped_seconds"] for event in live] == [0, listed["dropped_seconds"]]


async def test_a_whip_stream_comes_back_after_it_was_cut() -> None:
    with whip_server() as server:
        async with running() as session:
            session.outputs.start(start(server.url))
            await session.until(lambda: len(server.frames["video"]) > 5)
            await asyncio.to_thread(server.cut)
            await session.until(lambda: session.states[-2:] == ["reconnecting", "live"])
            num = len(server.frames["video"])
            await session.until(lambda: len(server.frames["video"]) > num + 5)

    assert session.events[-1]["num_reconnects"] == 1


async def test_a_refused_stream_ends_with_its_reason() -> None:
    with whip_server() as server:
        server.status = 403

        async with running() as session:
            session.outputs.start(start(server.url))
            await session.until(lambda: session.states[-1:] == ["ended"])
            assert not session.outputs.are_running

    assert session.events[-1]["code"] == "push_refused"
    assert "403" in session.events[-1]["message"]


@pytest.mark.parametrize("answers", [True, False])
async def test_a_server_that_hangs_is_given_up_and_holds_nothing_up(answers: bool) -> None:
    """One that says nothing, and one that is not there."""
    async with running(LiveConfig(push_timeout_s=0.3, push_retry_s=0.5)) as session:

        async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read()
            writer.close()

        server = await asyncio.start_server(silent, "127.0.0.1", 0)
        async with server:
            port = server.sockets[0].getsockname()[1] if answers else quiet_port()
            session.outputs.start(start(f"rtmp://127.0.0.1:{port}/live/{SECRET}"))
            await session.until(lambda: session.states[-1:] == ["ended"])

    # On a busy machine, the first attempt takes all of the time for retries.
    assert (session.states[0], session.states[-1]) == ("connecting", "ended")
    assert set(session.states[1:-1]) <= {"reconnecting"}
    assert session.events[-1]["code"] == "push_failed"
    assert SECRET not in str(session.events)


async def test_outputs_are_counted_listed_and_named() -> None:
    async with running(LiveConfig(max_outputs=1)) as session:
        with pytest.raises(UrlRefusedError):
            session.outputs.start(start(f"rtmp://10.0.0.1/live/{SECRET}"))
        session.outputs.start(start(f"rtmp://127.0.0.1:{quiet_port()}/live/{SECRET}"))
        with pytest.raises(OptionError, match="max_outputs"):
            session.outputs.start(start(f"rtmp://127.0.0.1:1935/live/{SECRET}"))
        with pytest.raises(NotFoundError):
            await session.outputs.stop("output-2")
        assert '"output_id": "output-1"' in session.outputs.describe()
        assert SECRET not in session.outputs.describe()
        await session.outputs.stop("output-1")
        session.outputs.start(start(f"rtmp://127.0.0.1:{quiet_port()}/live/{SECRET}"))


@pytest.mark.parametrize(
    ("queue_seconds", "num_missed", "num_offered", "start_seconds"),
    [(0.8, 0, 20, 1.28), (0.5, 0, 17, 1.28), (2.0, 1, 9, 0.64)],
    ids=["slow", "overflows before the next keyframe", "late"],
)
async def test_a_viewer_begins_with_a_keyframe(
    queue_seconds: float, num_missed: int, num_offered: int, start_seconds: float
) -> None:
    queue, fragments = FragmentQueue(queue_seconds), islice(FlashingStream(), num_missed, None)  # one every 0.64 s
    for _ in range(num_offered):
        queue.offer(next(fragments))
    first = await queue.get()
    assert first.start_seconds == pytest.approx(start_seconds) and first.pictures.is_key


@pytest.mark.endurance
@pytest.mark.timeout(900)
@pytest.mark.parametrize(("scheme", "speed"), [("rtmp", 8.0), pytest.param("srt", 8.0, marks=NO_SRT), ("whip", 1.0)])
def test_picture_and_sound_stay_together_for_ten_minutes(scheme: str, speed: float) -> None:
    found = measure(scheme, 10.0, speed)
    assert found["flashes"] > 590
    assert max(abs(found["skew_ms"]["min"]), found["skew_ms"]["max"]) < 40
    assert abs(found["drift_ms"]) < 5
    assert (found["dropped_seconds"], found["num_reconnects"]) == (0, 0)
