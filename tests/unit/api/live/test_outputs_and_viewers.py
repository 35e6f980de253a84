"""Sessions on a real server that are pushed, viewed, and taken over by another socket."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import wave
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from config import LiveConfig
from lipwright_client import Lipwright, LiveEvent, NotFoundError, ProblemError, StateError
from storage.local.api_keys import FileKeyRing
from tests.ports import quiet_port
from tests.unit.api.live.live_parts import AVATAR, GreyService
from tests.unit.api_server import MemoryService, serving
from tests.unit.net.push.receivers import rtmp_server

LIVE = LiveConfig(max_sessions=8, push_destinations=("rtmp://127.0.0.1:*",), max_viewers=1, max_detached_s=20)
SECRET = "sEcReT"
RATE = 24000


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    with serving(MemoryService(tmp_path / "data"), live=GreyService(), live_config=LIVE) as url:
        yield url


@contextmanager
def viewing(url: str, query: str = f"avatar_id={AVATAR}", **fields: str) -> Iterator[ClientConnection]:
    address = f"{url.replace('http', 'ws', 1)}/v1/live/view?{query}"
    with connect(address, proxy=None, max_size=2**24, additional_headers=fields, open_timeout=30) as line:
        yield line


def until(events: Iterator[LiveEvent], found: Callable[[LiveEvent], bool]) -> LiveEvent:
    return next(event for event in events if found(event))


def is_live(event: LiveEvent) -> bool:
    return event.raw.get("state") == "live"


def said(line: ClientConnection) -> dict[str, Any]:
    while True:
        message = line.recv(timeout=20)
        if isinstance(message, str):
            found: dict[str, Any] = json.loads(message)
            return found


def first_of_type(line: ClientConnection, kind: str) -> dict[str, Any]:
    return next(found for found in (said(line) for _ in range(1000)) if found["type"] == kind)


def test_live_command_pushes_its_speech_to_the_output(url: str, tmp_path: Path) -> None:
    port, path, speech = quiet_port(), tmp_path / "pushed.flv", tmp_path / "speech.wav"
    with wave.open(str(speech), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes((8000 * np.sin(np.arange(2 * RATE) / 20)).astype("<i2").tobytes())
    command = [sys.executable, "-m", "cli", "live", AVATAR, "--server", url, "--audio", str(speech), "--push"]
    with rtmp_server(port, path, f"live/{SECRET}") as server:
        done = subprocess.run(
            [*command, f"rtmp://127.0.0.1:{port}/live/{SECRET}"], capture_output=True, timeout=60, text=True
        )
        assert done.returncode == 0, done.stderr
        server.wait(20)
    assert f"rtmp://127.0.0.1:{port}: live" in done.stderr
    assert SECRET not in done.stderr
    assert path.stat().st_size > 10_000
    refused = subprocess.run([*command, "rtmp://10.0.0.1/live/key"], capture_output=True, timeout=60, text=True)
    assert refused.returncode != 0
    assert "url_refused" in refused.stderr


def test_live_without_video_sends_only_events_and_never_stalls(url: str) -> None:
    with Lipwright(url) as client, client.live(AVATAR, receives_video=False) as session:
        events = list(session.say([bytes(2 * RATE)]))
        session.list_outputs()
        assert until(iter(session), lambda event: event.type == "output.list").raw["outputs"] == []
    assert not any(event.media for event in events)
    assert events[-1].type == "agent.speak_ended"
    assert events[-1].raw["event_id"] == "client-1", "the end of what was said"


def test_viewer_of_a_live_avatar_sees_the_session_to_its_end(url: str) -> None:
    with viewing(url) as line:
        assert said(line)["code"] == "busy", "nobody is live yet"
    with Lipwright(url) as client, client.live(AVATAR) as session:
        until(iter(session), lambda event: event.type == "session.fragment")
        with viewing(url) as line:
            events = iter(session)
            assert said(line)["state"] == "connected"
            assert said(line)["type"] == "session.stream"
            assert line.recv(timeout=20)[4:8] == b"ftyp"
            first = said(line)
            assert (first["type"], first["start_seconds"] > 0) == ("session.fragment", True)
            assert line.recv(timeout=20)[4:8] == b"moof"
            with viewing(url) as other:
                refusal = first_of_type(other, "error")
            assert "viewers" in refusal["message"]
            until(events, lambda event: event.type == "session.fragment")
            session.__exit__(None, None, None)
            end = first_of_type(line, "session.ended")
            with pytest.raises(ConnectionClosed):
                line.recv(timeout=20)
        assert end["code"] == "session_ended"


def test_viewer_with_another_api_key_is_refused(tmp_path: Path) -> None:
    service, keys = MemoryService(tmp_path), FileKeyRing(tmp_path)
    (_, one), (_, other) = keys.add("one"), keys.add("other")
    with (
        serving(service, live=GreyService(), live_config=LIVE) as url,
        Lipwright(url, api_key=one) as client,
        client.live(AVATAR) as session,
    ):
        with viewing(url, Authorization=f"Bearer {other}") as line:
            assert said(line)["code"] == "busy"
        with viewing(url, Authorization=f"Bearer {one}") as line:
            assert said(line)["state"] == "connected"
        session_id = session.connected["session_id"]
        with (
            Lipwright(url, api_key=other) as stranger,
            pytest.raises(NotFoundError),
            stranger.live(session_id=session_id),
        ):
            pass


def test_session_with_output_outlives_its_client(url: str, tmp_path: Path) -> None:
    port, path = quiet_port(), tmp_path / "pushed.flv"
    with rtmp_server(port, path) as server, Lipwright(url) as client:
        lost = client.live(AVATAR)
        lost.__enter__()
        session_id = lost.connected["session_id"]
        lost.start_output(f"rtmp://127.0.0.1:{port}/live/key")
        start = until(iter(lost), is_live)
        with pytest.raises(ProblemError, match="already has a client"), client.live(session_id=session_id):
            pass
        lost._async._socket._socket.socket.shutdown(2)  # type: ignore[attr-defined]
        size = path.stat().st_size if path.exists() else 0
        with taken_over(client, session_id) as session:
            events = iter(session)
            assert until(events, lambda event: event.type == "session.stream").media[4:8] == b"ftyp"
            assert until(events, lambda event: event.type == "session.fragment").raw["start_seconds"] > 0
            session.stop_output(start.raw["output_id"])
            until(events, lambda event: event.raw.get("state") == "ended")
        server.wait(20)
    assert path.stat().st_size > size


def test_takeover_of_a_stalled_session_reports_its_state(tmp_path: Path) -> None:
    port, path, live = quiet_port(), tmp_path / "pushed.flv", GreyService()
    with (
        serving(MemoryService(tmp_path / "data"), live=live, live_config=LIVE) as url,
        rtmp_server(port, path),
        Lipwright(url) as client,
    ):
        lost = client.live(AVATAR)
        lost.__enter__()
        lost.start_output(f"rtmp://127.0.0.1:{port}/live/key")
        until(iter(lost), is_live)
        live.may_render = asyncio.Event()
        until(iter(lost), lambda event: event.raw.get("state") == "recovering")
        lost._async._socket._socket.socket.shutdown(2)  # type: ignore[attr-defined]
        with taken_over(client, str(lost.connected["session_id"])) as session:
            events = iter(session)
            assert [next(events).raw["state"] for _ in range(2)] == ["connected", "recovering"]


@contextmanager
def taken_over(client: Lipwright, session_id: str) -> Iterator[Any]:
    """Take over a session as soon as the service has noticed that its client is lost."""
    for _ in range(100):
        session = client.live(session_id=session_id)
        try:
            session.__enter__()
        except ProblemError:
            continue
        yield session
        session.__exit__(None, None, None)
        return
    raise AssertionError("the session could not be taken over")


def test_a_session_without_outputs_ends_with_its_client(url: str) -> None:
    with Lipwright(url) as client:
        with client.live(AVATAR) as session:
            session_id = session.connected["session_id"]
        for _ in range(100):
            try:
                with client.live(session_id=session_id):
                    raise AssertionError("the session goes on")
            except StateError:
                continue  # its end has not been noticed yet
            except NotFoundError:
                return
        raise AssertionError("the session does not end")
