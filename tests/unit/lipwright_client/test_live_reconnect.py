"""Live sessions whose connection breaks without a close frame, against the real routes."""

from __future__ import annotations

import asyncio
import io
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import av
import numpy as np
import pytest

from cli.live import JoinedStream
from config import LiveConfig
from lipwright_client import AsyncLipwright, ConnectionFailedError, Lipwright, LiveEvent, LiveSession, NotFoundError
from tests.ports import quiet_port
from tests.unit.api.live.live_parts import AVATAR, GreyService
from tests.unit.api_server import MemoryService, serving
from tests.unit.lipwright_client.breaking_proxy import BreakingProxy, breaking_proxy
from tests.unit.lipwright_client.test_live import seconds_of
from tests.unit.net.push.receivers import rtmp_server

RATE = 24000
SECONDS = 3
VOICE = (8000 * np.sin(np.arange(SECONDS * RATE) / 20)).astype("<i2").tobytes()
LIVE = LiveConfig(max_sessions=8, push_destinations=("rtmp://127.0.0.1:*",), max_detached_s=20, max_stall_s=60)


@pytest.fixture
def proxy(tmp_path: Path) -> Iterator[BreakingProxy]:
    with (
        serving(MemoryService(tmp_path / "data"), live=GreyService(), live_config=LIVE) as url,
        breaking_proxy(url) as proxy,
    ):
        yield proxy


def pieces() -> list[bytes]:
    return [VOICE[start : start + 4800] for start in range(0, len(VOICE), 4800)]


def states(events: list[LiveEvent]) -> list[str]:
    return [str(event.raw["state"]) for event in events if event.type == "session.state_updated"]


def streams(events: list[LiveEvent]) -> list[bytes]:
    """The media of each stream."""
    found: list[bytes] = []
    for event in events:
        if event.type == "session.stream":
            found.append(b"")
        if event.media:
            found[-1] += event.media
    return found


def cut_while_speaking(proxy: BreakingProxy, events: Iterator[LiveEvent]) -> list[LiveEvent]:
    """Break the connection a second after the avatar began to speak; return all events."""
    seen, began = [], None
    for event in events:
        seen.append(event)
        if event.type == "agent.speak_started" and began is None:
            began = 0.0
        if began is not None and event.type == "session.fragment" and "reconnecting" not in states(seen):
            began += event.raw["duration_seconds"]
            if began > 1:
                proxy.cut()
        if event.type == "agent.speak_ended":
            return seen
    raise AssertionError("the speech did not end")


def check_spoken_once(events: list[LiveEvent]) -> None:
    """Everything was spoken once, in two streams."""
    spoken = [seconds_of(stream)[1] for stream in streams(events)]
    assert len(spoken) == 2 and min(spoken) > 0.5
    assert sum(spoken) == pytest.approx(SECONDS, abs=0.3)


def test_say_over_broken_connection_continues(proxy: BreakingProxy) -> None:
    with Lipwright(proxy.url) as client, client.live(AVATAR, RATE) as session:
        events = cut_while_speaking(proxy, session.say(pieces()))
        first_id = session.connected["session_id"]
    assert states(events) == ["connecting", "connected", "reconnecting", "connecting", "connected"]
    ids = {event.raw["session_id"] for event in events if "session_id" in event.raw}
    assert len(ids) == 2 and first_id in ids
    check_spoken_once(events)


def test_async_speak_over_broken_connection_is_sent_again(proxy: BreakingProxy) -> None:
    async def talk() -> list[LiveEvent]:
        async with AsyncLipwright(proxy.url) as client, client.live(AVATAR, RATE) as session:
            await session.speak(VOICE)
            await session.speak_end()
            seen: list[LiveEvent] = []
            async for event in session:
                seen.append(event)
                if event.type == "session.fragment" and event.raw["spoken_seconds"] > 1 and len(streams(seen)) == 1:
                    proxy.cut()
                if event.type == "agent.speak_ended":
                    return seen
        raise AssertionError("the speech did not end")

    check_spoken_once(asyncio.run(asyncio.wait_for(talk(), 60)))


def test_joined_stream_of_two_sessions_is_one_file(proxy: BreakingProxy) -> None:
    with Lipwright(proxy.url) as client, client.live(AVATAR, RATE) as session:
        events = cut_while_speaking(proxy, session.say(pieces()))
    joined = JoinedStream()
    file = b"".join(joined.media(event) for event in events)
    assert len(file) < sum(len(event.media) for event in events), "one head"
    with av.open(io.BytesIO(file), "r") as container:
        times = [float(packet.pts * packet.time_base) for packet in container.demux(video=0) if packet.pts is not None]
    assert np.allclose(np.diff(times), 0.04)
    assert times[-1] + 0.04 == pytest.approx(joined.seconds)
    assert joined.seconds == pytest.approx(sum(seconds_of(stream)[0] for stream in streams(events)))


def test_live_command_writes_one_file_over_broken_connection(proxy: BreakingProxy, tmp_path: Path) -> None:
    out = tmp_path / "live.mp4"
    command = [sys.executable, "-m", "cli", "live", AVATAR, "--server", proxy.url, "--out", str(out)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE) as running:
        assert running.stdin is not None and running.stderr is not None
        running.stdin.write(VOICE)
        running.stdin.close()
        assert [running.stderr.readline().strip() for _ in range(2)] == [b"connecting", b"connected"]
        time.sleep(1.5)
        proxy.cut()
        said = running.stderr.read()
    assert running.returncode == 0, said
    assert said.split()[:3] == [b"reconnecting", b"connecting", b"connected"]
    assert seconds_of(out.read_bytes())[1] == pytest.approx(SECONDS, abs=1.5)


def test_speak_while_reconnecting_is_spoken_afterwards(proxy: BreakingProxy) -> None:
    with Lipwright(proxy.url) as client, client.live(AVATAR, RATE) as session:
        events = iter(session)
        next(event for event in events if event.type == "session.fragment")
        proxy.refuses = True
        proxy.cut()
        next(event for event in events if event.raw.get("state") == "reconnecting")
        session.speak(VOICE)
        session.speak_end()
        threading.Timer(1.5, lambda: setattr(proxy, "refuses", False)).start()
        num_accepted = proxy.num_accepted
        seen = []
        for event in events:
            seen.append(event)
            if event.type == "agent.speak_ended":
                break
    assert proxy.num_accepted - num_accepted <= 6, "tries are further and further apart"
    assert seconds_of(streams(seen)[0])[1] == pytest.approx(SECONDS, abs=0.2)


def test_session_with_output_is_continued(proxy: BreakingProxy, tmp_path: Path) -> None:
    port = quiet_port()
    with (
        rtmp_server(port, tmp_path / "pushed.flv"),
        Lipwright(proxy.url) as client,
        client.live(AVATAR, RATE) as session,
    ):
        session_id = session.connected["session_id"]
        session.start_output(f"rtmp://127.0.0.1:{port}/live/key")
        next(event for event in session if event.raw.get("state") == "live")
        events = cut_while_speaking(proxy, session.say(pieces()))
        assert session.connected["session_id"] == session_id
        ends = [event.raw["start_seconds"] for event in events if event.type == "session.fragment"]
        assert ends == sorted(ends), "the time of the stream goes on"
        assert not any(event.raw.get("state") == "ended" for event in events)
        session.list_outputs()
        listed = next(event for event in session if event.type == "output.list").raw["outputs"]
        assert [output["state"] for output in listed] == ["live"]
    assert "reconnecting" in states(events)


def test_outputs_of_lost_session_are_started_again(tmp_path: Path) -> None:
    live = LIVE.model_copy(update={"max_detached_s": 0.01})
    port = quiet_port()
    with (
        serving(MemoryService(tmp_path / "data"), live=GreyService(), live_config=live) as url,
        breaking_proxy(url) as proxy,
        Lipwright(proxy.url) as client,
        client.live(AVATAR, RATE, receives_video=False) as session,
    ):
        session_id = session.connected["session_id"]
        with rtmp_server(port, tmp_path / "first.flv"):
            session.start_output(f"rtmp://127.0.0.1:{port}/live/key")
            next(event for event in session if event.raw.get("state") == "live")
        with rtmp_server(port, tmp_path / "second.flv"):
            proxy.cut()
            events = iter(session)
            next(event for event in events if event.raw.get("state") == "reconnecting")
            next(event for event in events if event.raw.get("state") == "live")
        assert session.connected["session_id"] != session_id


def test_connection_that_stays_broken_fails_after_reconnect_s(proxy: BreakingProxy) -> None:
    with Lipwright(proxy.url) as client, client.live(AVATAR, RATE, reconnect_s=1.5) as session:
        started = _lose(proxy, session)
        with pytest.raises(ConnectionFailedError, match=r"could not be restored within 1.5 s"):
            list(session)
        assert time.monotonic() - started < 2.5
        with pytest.raises(ConnectionFailedError):
            session.speak(VOICE)


def test_reconnect_s_of_zero_raises_at_once(proxy: BreakingProxy) -> None:
    with Lipwright(proxy.url) as client, client.live(AVATAR, RATE, reconnect_s=0) as session:
        num_accepted = proxy.num_accepted
        _lose(proxy, session)
        with pytest.raises(ConnectionFailedError):
            list(session)
        assert proxy.num_accepted == num_accepted


def test_session_that_service_ends_is_not_reconnected(tmp_path: Path) -> None:
    live = LIVE.model_copy(update={"idle_timeout_s": 0.5})
    with (
        serving(MemoryService(tmp_path / "data"), live=GreyService(), live_config=live) as url,
        Lipwright(url) as client,
        client.live(AVATAR, RATE) as session,
    ):
        events = list(session)
    assert events[-1].type == "session.ended" and "reconnecting" not in states(events)


@contextmanager
def _session_through_proxy(tmp_path: Path, live: GreyService) -> Iterator[tuple[LiveSession, BreakingProxy]]:
    with (
        serving(MemoryService(tmp_path / "data"), live=live, live_config=LIVE) as url,
        breaking_proxy(url) as proxy,
        Lipwright(proxy.url) as client,
        client.live(AVATAR, RATE) as session,
    ):
        yield session, proxy


def test_refusal_while_reconnecting_is_raised(tmp_path: Path) -> None:
    live = GreyService(8)
    with _session_through_proxy(tmp_path, live) as (session, proxy):
        events = iter(session)
        next(event for event in events if event.type == "session.fragment")

        async def prepare(*_: object) -> None:
            raise _gone()

        live.prepare = prepare  # type: ignore[assignment,method-assign]
        proxy.cut()
        with pytest.raises(NotFoundError):
            list(events)


def test_refused_update_is_not_repeated_after_reconnecting(tmp_path: Path) -> None:
    live = GreyService(8)
    with _session_through_proxy(tmp_path, live) as (session, proxy):
        events = iter(session)
        for gaze in ("camera", "up"):  # of a video, and unknown
            session.update_avatar(gaze=gaze)
            refused = next(event for event in events if event.type == "error")
            assert "gaze" in refused.raw["message"]
        proxy.cut()
        next(event for event in events if event.raw.get("state") == "reconnecting")
        seen: list[LiveEvent] = []
        while sum(event.type == "session.fragment" for event in seen) < 5:
            seen.append(next(events))
    assert not any(event.type == "error" for event in seen)
    assert live.settings[-1] == live.settings[0]


def _gone() -> Exception:
    from errors import NotFoundError

    return NotFoundError("The avatar was deleted.")


def _lose(proxy: BreakingProxy, session: LiveSession) -> float:
    """Break the connection permanently, and return when."""
    next(event for event in session if event.type == "session.fragment")
    proxy.refuses = True
    proxy.cut()
    return time.monotonic()
