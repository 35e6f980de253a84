"""The socket of a live session on a real server: who is let in, and how it ends."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from errors import KeyLimitError, ReplicaLostError
from storage.local.api_keys import FileKeyRing
from tests.unit.api.live.live_parts import AVATAR, GreyService
from tests.unit.api_server import MemoryService, serving
from tests.waiting import wait_until


@contextmanager
def socket(url: str, query: str = f"avatar_id={AVATAR}", **fields: str) -> Iterator[ClientConnection]:
    address = f"{url.replace('http', 'ws', 1)}/v1/live?{query}"
    with connect(address, proxy=None, max_size=2**24, additional_headers=fields, open_timeout=30) as line:
        yield line


def events(line: ClientConnection) -> Iterator[dict[str, Any]]:
    """What is said, without the stream; pictures count as shown when they come."""
    while True:
        message = line.recv(timeout=30)
        if isinstance(message, str):
            said = json.loads(message)
            if said["type"] == "session.fragment":
                line.send(json.dumps({"type": "session.playback", "position_seconds": said["start_seconds"]}))
            yield said


def fragments(line: ClientConnection) -> Iterator[dict[str, Any]]:
    return (said for said in events(line) if said["type"] == "session.fragment")


def first(line: ClientConnection, kind: str) -> dict[str, Any]:
    return next(said for said in events(line) if said["type"] == kind)


def is_accepted(url: str) -> bool:
    """Return whether another session can start."""
    with socket(url) as line:
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


def test_live_socket_sends_states_then_stream(url: str) -> None:
    with socket(url) as line:
        said = events(line)
        connecting, connected, stream = next(said), next(said), next(said)
    assert (connecting["state"], connected["state"]) == ("connecting", "connected")
    assert (connected["width"], connected["fps"], connected["sample_rate"]) == (64, 25.0, 24000)
    assert stream["type"] == "session.stream"


def test_live_socket_holds_the_avatar_of_its_session(url: str, live: GreyService) -> None:
    with socket(url) as line:
        first(line, "session.fragment")
        assert live.held == [(AVATAR, None)]


def test_live_socket_at_capacity_is_closed_with_retry_after(url: str) -> None:
    with socket(url) as inside:
        first(inside, "session.fragment")
        with socket(url) as outside:
            refusal = first(outside, "error")
            assert (refusal["code"], refusal["retryable"]) == ("busy", True)
            assert refusal["retry_after_s"] > 0
            assert close_code(outside) == 1013
        first(inside, "session.fragment")
    wait_until(lambda: is_accepted(url), 30)


def test_live_socket_reports_usage_at_its_end(url: str, live: GreyService) -> None:
    with socket(url) as line:
        start_seconds = [said["start_seconds"] for said, _ in zip(fragments(line), range(3), strict=False)]
    wait_until(lambda: any(usage.is_over for usage in live.reports), 30)
    (usage,) = live.reports
    assert usage.live_seconds > start_seconds[-1] > 0 and usage.owner is None
    assert usage.compute.cpu_seconds == pytest.approx(len(live.requests))


def test_live_socket_over_the_limit_of_its_key_is_refused(url: str, live: GreyService) -> None:
    live.refusal = KeyLimitError("The limit live_sessions of this API key is 1.", 60.0)
    with socket(url) as line:
        refusal = next(events(line))
        assert (refusal["type"], refusal["code"], refusal["retry_after_s"]) == ("error", "key_limit_reached", 60)
        assert close_code(line) == 1013
    assert not live.reports and not live.requests


def test_live_session_on_drained_node_tells_client_to_reconnect(url: str, live: GreyService) -> None:
    with socket(url) as line:
        first(line, "session.fragment")
        live.moves.set()
        moved = first(line, "error")
        assert (moved["code"], moved["retryable"]) == ("busy", True)
        assert close_code(line) == 1013


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("avatar_id=other", "not_found"),
        ("", "option_invalid"),
        (f"avatar_id={AVATAR}&sample_rate=1", "option_invalid"),
        (f"avatar_id={AVATAR}&expressiveness=2.1", "option_invalid"),
        (f"avatar_id={AVATAR}&expressiveness=nan", "option_invalid"),
        (f"avatar_id={AVATAR}&motion=1.1", "option_invalid"),
        (f"avatar_id={AVATAR}&background=transparent", "option_invalid"),
        (f"avatar_id={AVATAR}&background=beach.jpg", "option_invalid"),
        (f"avatar_id={AVATAR}&background=", "option_invalid"),
        (f"avatar_id={AVATAR}&background=blur&matte=best", "option_invalid"),
        (f"avatar_id={AVATAR}&matte=person", "option_invalid"),
        (f"avatar_id={AVATAR}&background=blur&background_id=0", "option_invalid"),
        (f"avatar_id={AVATAR}&background_id=0&background_loop=cut", "option_invalid"),
    ],
)
def test_live_socket_with_invalid_options_is_refused(url: str, query: str, code: str) -> None:
    with socket(url, query) as line:
        assert first(line, "error")["code"] == code
        assert close_code(line) == 1008


def test_unexpected_error_ends_the_session_with_an_error_event(url: str, live: GreyService) -> None:
    with socket(url) as line:
        first(line, "session.fragment")
        live.errors.append(ReplicaLostError("LiveSession.render: the replica died in each of 3 tries."))
        assert first(line, "error")["code"] == "replica_lost"
        assert close_code(line) == 1013


def test_live_socket_closed_during_prepare_frees_its_session(url: str, live: GreyService) -> None:
    live.prepare_s = 20.0
    with socket(url) as line:
        next(events(line))
    live.prepare_s = 0.0
    wait_until(lambda: is_accepted(url), 10)


def test_live_socket_without_api_key_is_refused(tmp_path: Path, live: GreyService) -> None:
    _, key = FileKeyRing(tmp_path).add("a studio")
    with serving(MemoryService(tmp_path), live=live) as url:
        for fields in ({}, {"Authorization": "Bearer lw_000000000000_nobodynobodynobodyno"}):
            with pytest.raises(InvalidStatus) as refused, socket(url, **fields):
                pass
            assert refused.value.response.status_code == 403
        with socket(url, Authorization=f"Bearer {key}") as line:
            first(line, "session.fragment")


def test_live_socket_from_another_origin_is_refused(url: str) -> None:
    """Browsers send no preflight for WebSockets: any page could open one to a service on this machine."""
    with pytest.raises(InvalidStatus) as refused, socket(url, Origin="https://other.example"):
        pass
    assert refused.value.response.status_code == 403


def test_live_socket_with_cookie_needs_the_own_origin(tmp_path: Path, live: GreyService) -> None:
    from api.session_token import COOKIE, new_token

    keys = FileKeyRing(tmp_path)
    key, _ = keys.add("a studio")
    cookie = f"{COOKIE}={new_token(key)}"
    with serving(MemoryService(tmp_path), live=live) as url:
        with pytest.raises(InvalidStatus), socket(url, Cookie=cookie, Origin="https://other.example"):
            pass
        with socket(url, Cookie=cookie, Origin=url) as line:
            first(line, "session.fragment")
