"""Live sessions on a real server: who is let in, how they end, and how they are pushed, viewed and taken over."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from benchmarks.media_files import write_wav
from lipwright.api.session_token import COOKIE, new_token
from lipwright.config import LiveConfig
from lipwright.errors import KeyLimitError, ReplicaLostError
from lipwright.storage.local.api_keys import FileKeyRing
from lipwright_client import Lipwright, LiveEvent, NotFoundError, ProblemError, StateError
from tests.live_playback import report_playback
from tests.ports import quiet_port
from tests.unit.api.live.live_parts import AVATAR, GreyService
from tests.unit.api_server import MemoryService, serving
from tests.unit.cli.commands import run, succeed
from tests.unit.net.push.receivers import rtmp_server
from tests.waiting import wait_until


@contextmanager
def socket(
    url: str, query: str = f"avatar_id={AVATAR}", path: str = "/v1/live", **fields: str
) -> Iterator[ClientConnection]:
    address = f"{url.replace('http', 'ws', 1)}{path}?{query}"
    with connect(address, proxy=None, max_size=2**24, additional_headers=fields, open_timeout=30) as line:
        yield line


def said(line: ClientConnection) -> Iterator[dict[str, Any]]:
    """What is said, without the stream."""
    while True:
        message = line.recv(timeout=30)
        if isinstance(message, str):
            yield json.loads(message)


def events(line: ClientConnection) -> Iterator[dict[str, Any]]:
    """The same; pictures count as shown when they come."""
    for event in said(line):
        if event["type"] == "session.fragment":
            report_playback(line, event)
        yield event


def first(line: ClientConnection, kind: str) -> dict[str, Any]:
    return next(event for event in events(line) if event["type"] == kind)


def is_accepted(url: str, **fields: str) -> bool:
    """Return whether another session can start."""
    with socket(url, **fields) as line:
        return bool(next(events(line))["type"] == "session.state_updated")


def close_code(line: ClientConnection) -> int:
    with pytest.raises(ConnectionClosed) as closed:
        for _ in events(line):
            pass
    assert closed.value.rcvd is not None
    return closed.value.rcvd.code


@pytest.fixture
def live() -> GreyService:
    return GreyService()


@pytest.fixture
def url(tmp_path: Path, live: GreyService) -> Iterator[str]:
    with serving(MemoryService(tmp_path), live=live) as url:
        yield url


def test_live_socket_sends_states_then_stream(url: str, live: GreyService) -> None:
    with socket(url) as line:
        connecting, connected, stream = islice(events(line), 3)
        first(line, "session.fragment")
        assert live.held == [(AVATAR, None)]
    assert (connecting["state"], connected["state"]) == ("connecting", "connected")
    assert (connected["width"], connected["fps"], connected["sample_rate"]) == (64, 25.0, 24000)
    assert stream["type"] == "session.stream"


def test_live_socket_that_is_refused_is_closed_with_retry_after(url: str, live: GreyService) -> None:
    def refusal() -> tuple[str, bool, float]:
        with socket(url) as outside:
            error = first(outside, "error")
            assert close_code(outside) == 1013
        return error["code"], error["retryable"], error["retry_after_s"]

    live.refusal = KeyLimitError("The limit live_sessions of this API key is 1.", 60.0)
    assert refusal() == ("key_limit_reached", True, 60)
    assert not live.reports and not live.requests
    live.refusal = None
    with socket(url) as inside:
        first(inside, "session.fragment")
        code, is_retryable, retry_after_s = refusal()
        assert (code, is_retryable, retry_after_s > 0) == ("busy", True, True)
        first(inside, "session.fragment")
    wait_until(lambda: is_accepted(url))


def test_live_socket_reports_usage_at_its_end(url: str, live: GreyService) -> None:
    with socket(url) as line:
        start_seconds = [first(line, "session.fragment")["start_seconds"] for _ in range(3)]
    wait_until(lambda: any(usage.is_over for usage in live.reports))
    (usage,) = live.reports
    assert usage.live_seconds > start_seconds[-1] > 0 and usage.owner is None
    assert usage.compute.cpu_seconds == pytest.approx(len(live.requests))


@pytest.mark.parametrize("is_drained", [True, False])
def test_live_session_that_cannot_go_on_ends_with_an_error(url: str, live: GreyService, is_drained: bool) -> None:
    with socket(url) as line:
        first(line, "session.fragment")
        if is_drained:
            live.moves.set()
        else:
            live.errors.append(ReplicaLostError("LiveSession.render: the replica died in each of 3 tries."))
        error = first(line, "error")
        assert (error["code"], error["retryable"]) == ("busy" if is_drained else "replica_lost", True)
        assert close_code(line) == 1013


def test_live_socket_with_invalid_options_is_refused(url: str) -> None:
    invalid = (
        *("&sample_rate=1", "&expressiveness=2.1", "&expressiveness=nan", "&motion=1.1", "&background=transparent"),
        *("&background=beach.jpg", "&background=", "&background=blur&matte=best", "&matte=person"),
        *("&background=blur&background_id=0", "&background_id=0&background_loop=cut"),
    )
    queries = {f"avatar_id={AVATAR}{options}": "option_invalid" for options in invalid}
    for query, code in {**queries, "avatar_id=other": "not_found", "": "option_invalid"}.items():
        with socket(url, query) as line:
            assert first(line, "error")["code"] == code, query
            assert close_code(line) == 1008


def test_live_socket_closed_during_prepare_frees_its_session(url: str, live: GreyService) -> None:
    live.prepare_s = 20.0
    with socket(url) as line:
        next(events(line))
    live.prepare_s = 0.0
    wait_until(lambda: is_accepted(url))


def is_forbidden(url: str, **fields: str) -> bool:
    with pytest.raises(InvalidStatus) as refused, socket(url, **fields):
        pass
    return refused.value.response.status_code == 403


def test_live_socket_needs_a_key_or_a_cookie_of_its_origin(tmp_path: Path, url: str) -> None:
    """Browsers send no preflight for WebSockets: any page could open one to a service on this machine."""
    other = {"Origin": "https://other.example"}
    assert is_forbidden(url, **other), "also without keys"
    key, secret = FileKeyRing(tmp_path).add("a studio")
    cookie = {"Cookie": f"{COOKIE}={new_token(key)}"}
    for fields in ({}, {"Authorization": "Bearer lw_000000000000_nobodynobodynobodyno"}, {**cookie, **other}):
        assert is_forbidden(url, **fields)
    for fields in ({"Authorization": f"Bearer {secret}"}, {**cookie, "Origin": url}):
        wait_until(partial(is_accepted, url, **fields))


LIVE = LiveConfig(max_sessions=8, push_destinations=("rtmp://127.0.0.1:*",), max_viewers=1, max_detached_s=20)
SECRET = "sEcReT"
RATE = 24000


@pytest.fixture
def push_url(tmp_path: Path) -> Iterator[str]:
    with serving(MemoryService(tmp_path / "data"), live=GreyService(), live_config=LIVE) as url:
        yield url


def viewing(url: str, **fields: str) -> AbstractContextManager[ClientConnection]:
    return socket(url, path="/v1/live/view", **fields)


def until(events: Iterator[LiveEvent], found: Callable[[LiveEvent], bool]) -> LiveEvent:
    return next(event for event in events if found(event))


def test_live_command_pushes_its_speech_to_the_output(push_url: str, tmp_path: Path) -> None:
    port, path, speech = quiet_port(), tmp_path / "pushed.flv", tmp_path / "speech.wav"
    write_wav(speech, (8000 * np.sin(np.arange(2 * RATE) / 20)).astype(np.int16), RATE)
    command = ("live", AVATAR, "--server", push_url, "--audio", str(speech), "--push")
    with rtmp_server(port, path, f"live/{SECRET}") as server:
        done = succeed(*command, f"rtmp://127.0.0.1:{port}/live/{SECRET}")
        server.wait(20)
    assert f"rtmp://127.0.0.1:{port}: live" in done.stderr
    assert SECRET not in done.output
    assert path.stat().st_size > 10_000
    refused = run(*command, "rtmp://10.0.0.1/live/key")
    assert refused.exit_code != 0 and "url_refused" in refused.stderr


def test_live_without_video_sends_only_events_and_never_stalls(push_url: str) -> None:
    with Lipwright(push_url) as client, client.live(AVATAR, receives_video=False) as session:
        events = list(session.say([bytes(2 * RATE)]))
        session.list_outputs()
        assert until(iter(session), lambda event: event.type == "output.list").raw["outputs"] == []
    assert not any(event.media for event in events)
    assert events[-1].type == "agent.speak_ended"
    assert events[-1].raw["event_id"] == "client-1", "the end of what was said"


def test_viewer_of_a_live_avatar_sees_the_session_to_its_end(push_url: str) -> None:
    with viewing(push_url) as line:
        assert next(said(line))["code"] == "busy", "nobody is live yet"
    with Lipwright(push_url) as client, client.live(AVATAR) as session:
        until(iter(session), lambda event: event.type == "session.fragment")
        with viewing(push_url) as line:
            events = iter(session)
            assert next(said(line))["state"] == "connected"
            assert next(said(line))["type"] == "session.stream"
            assert line.recv(timeout=20)[4:8] == b"ftyp"
            first = next(said(line))
            assert (first["type"], first["start_seconds"] > 0) == ("session.fragment", True)
            assert line.recv(timeout=20)[4:8] == b"moof"
            with viewing(push_url) as other:
                refusal = next(event for event in said(other) if event["type"] == "error")
            assert "viewers" in refusal["message"]
            until(events, lambda event: event.type == "session.fragment")
            session.__exit__(None, None, None)
            end = next(event for event in said(line) if event["type"] == "session.ended")
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
            assert next(said(line))["code"] == "busy"
        with viewing(url, Authorization=f"Bearer {one}") as line:
            assert next(said(line))["state"] == "connected"
        session_id = session.connected["session_id"]
        with (
            Lipwright(url, api_key=other) as stranger,
            pytest.raises(NotFoundError),
            stranger.live(session_id=session_id),
        ):
            pass


def test_session_with_output_outlives_its_client(push_url: str, tmp_path: Path) -> None:
    port, path = quiet_port(), tmp_path / "pushed.flv"
    with rtmp_server(port, path) as server, Lipwright(push_url) as client:
        lost = client.live(AVATAR)
        lost.__enter__()
        session_id = lost.connected["session_id"]
        lost.start_output(f"rtmp://127.0.0.1:{port}/live/key")
        start = until(iter(lost), lambda event: event.raw.get("state") == "live")
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
        until(iter(lost), lambda event: event.raw.get("state") == "live")
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


def test_a_session_without_outputs_ends_with_its_client(push_url: str) -> None:
    with Lipwright(push_url) as client:
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
