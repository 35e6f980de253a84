"""Clients that take over a session, messages that fail, tasks beside a session, and the pace of its stream."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, cast

import pytest
from starlette.types import Receive, Send
from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from lipwright.api.live.client_connection import ClientConnection, next_message
from lipwright.api.live.running_sessions import RunningSession, RunningSessions
from lipwright.api.live.session_clock import StreamPacer
from lipwright.api.live.session_stream import SessionStream
from lipwright.api.live.session_usage import SessionUsage
from lipwright.api.live.tasks import keep_avatar_alive
from lipwright.errors import NotFoundError, ReplicaLostError
from lipwright.jobs.model.compute import ComputeMeter
from lipwright.jobs.model.usage import LiveUsage
from tests.unit.api.live.live_parts import AVATAR, GreyService
from tests.waiting import until


async def _never() -> Any:
    await asyncio.Event().wait()


async def _ignore(message: Any) -> None:
    pass


def _socket(receive: Receive = _never, send: Send = _ignore) -> WebSocket:
    socket = WebSocket({"type": "websocket", "query_string": b"", "headers": []}, receive, send)
    socket.client_state = socket.application_state = WebSocketState.CONNECTED
    return socket


async def test_a_client_that_arrives_while_the_session_ends_is_refused() -> None:
    connection = ClientConnection(_socket())
    connection.detach()
    stream = cast(SessionStream, None)  # a session that ends asks its stream for nothing
    session, sessions = RunningSession("s", "a", None, stream, connection, {}), RunningSessions()
    with sessions.add(session):
        taking_over = asyncio.create_task(sessions.take_over("s", None, _socket()))
        await asyncio.sleep(0)
        assert session.clients.full()
    with pytest.raises(NotFoundError):
        await asyncio.wait_for(taking_over, 20)


async def test_a_close_that_makes_a_message_fail_ends_the_session() -> None:
    """The close code arrives after the failed message; the session does not go on without a client."""
    has_failed = asyncio.Event()

    async def receive() -> Any:
        await has_failed.wait()
        await asyncio.sleep(0.01)
        return {"type": "websocket.disconnect", "code": 1000}

    async def send(message: Any) -> None:
        has_failed.set()
        raise OSError("closing")

    socket = _socket(receive, send)
    connection = ClientConnection(socket)
    stream = cast(SessionStream, SimpleNamespace(outputs=SimpleNamespace(are_running=True)))
    session = RunningSession("s", "a", None, stream, connection, {})
    serving = asyncio.create_task(session.serve_clients(socket, asyncio.create_task(next_message(socket)), 600))
    await connection.send_text("{}")
    with pytest.raises(WebSocketDisconnect) as left:
        await asyncio.wait_for(serving, 20)
    assert left.value.code == 1000


def test_next_message_of_dead_proxy_is_lost_client() -> None:
    async def receive() -> Any:
        raise OSError("The actor died unexpectedly.")

    with pytest.raises(WebSocketDisconnect) as left:
        asyncio.run(next_message(_socket(receive)))
    assert left.value.code == 1006, "a session with outputs goes on"


async def test_keep_avatar_alive_pins_until_cancelled() -> None:
    class Away(GreyService):
        async def pin(self, avatar_id: str, owner: str | None) -> None:
            await super().pin(avatar_id, owner)
            if len(self.held) == 1:
                raise ReplicaLostError("Director.pin: the replica died in each of 4 tries.")

    service = Away()
    task = asyncio.create_task(keep_avatar_alive(service, AVATAR, "a", every_s=0.01))
    await until(lambda: len(service.held) >= 3)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    num = len(service.held)
    await asyncio.sleep(0.05)
    assert len(service.held) == num, "until the session is over"
    assert set(service.held) == {(AVATAR, "a")}


async def test_report_lost_report_is_made_up_by_the_next() -> None:
    class Lossy(GreyService):
        async def report(self, usage: LiveUsage) -> None:
            stream.seconds += 10.0
            if usage.live_seconds == 20:
                raise ReplicaLostError("Director.report_live: the replica died in each of 4 tries.")
            await super().report(usage)

    service, stream = Lossy(), SimpleNamespace(seconds=10.0)
    usage = SessionUsage("s", "a", ComputeMeter(), cast(SessionStream, stream))
    task = asyncio.create_task(usage.report(service, every_s=0.001))
    await until(lambda: len(service.reports) >= 2)
    task.cancel()
    assert [each.live_seconds for each in service.reports[:2]] == [10, 30]
    assert usage.total(is_over=True).is_over


async def test_send_text_cancelled_as_it_completes_raises() -> None:
    """`asyncio.wait_for` of Python 3.11 returns instead, and a session that was cancelled would go on."""
    is_released = asyncio.Event()

    async def send(message: Any) -> None:
        await is_released.wait()

    sending = asyncio.create_task(ClientConnection(_socket(send=send)).send_text("hello"))
    await asyncio.sleep(0.01)
    is_released.set()
    sending.cancel()
    with pytest.raises(asyncio.CancelledError):
        await sending


async def test_send_failure_of_replaced_client_keeps_the_new_one() -> None:
    has_failed = asyncio.Event()

    async def send(message: Any) -> None:
        await has_failed.wait()
        raise OSError("timed out")

    connection = ClientConnection(_socket(send=send))
    sending = asyncio.create_task(connection.send_text("hello"))
    await asyncio.sleep(0)
    connection.detach()
    connection.attach(_socket())
    has_failed.set()
    await sending
    assert connection.is_attached and connection.receives_video


MOMENT_S = 0.08
MAX_AHEAD_S = 3.0
REPORT_S = 0.25
KEEP_S = 0.19  # buffered before it plays, and kept by a player that steers: web/js/live_session.js
SLOWEST, FASTEST, SETTLE_S = 0.95, 1.06, 0.2
TICK_S = 0.02


@dataclass
class Watched:
    """What an hour of one stream was."""

    seconds: float = 0.0  # of the stream, made
    most_ahead_s: float = 0.0  # that had come and was not shown
    starved_s: float = 0.0  # time in which the client had nothing to show
    longest_s: float = 0.0  # such time at a stretch
    stalled_s: float = 0.0  # longest time in which the service saw nothing shown


def watch(rate: float, is_steered: bool = False, wall_s: float = 3600.0) -> Watched:
    """A client whose clock makes `rate` seconds in one of ours; run dry, it waits for 190 ms of stream.

    Steered as on the page, it plays slower or faster to keep what it began with; other players do not.
    """
    clock = [0.0]
    pace, seen = StreamPacer(MAX_AHEAD_S, lambda: clock[0]), Watched()
    sent = shown = reported = starved = 0.0
    is_playing = False
    while clock[0] < wall_s:
        while pace.wait_s(sent) == 0:
            sent += MOMENT_S
        clock[0] += TICK_S
        if is_playing:
            steer = min(FASTEST, max(SLOWEST, 1 + (sent - shown - KEEP_S) / SETTLE_S)) if is_steered else 1.0
            starved, shown = 0.0, shown + rate * steer * TICK_S
            is_playing = shown < sent
            shown = min(shown, sent)
        else:
            starved += TICK_S
            seen.starved_s += TICK_S
            is_playing = sent - shown >= KEEP_S
        if clock[0] - reported >= REPORT_S:
            reported = clock[0]
            seen.stalled_s = max(seen.stalled_s, pace.stalled_s())
            pace.report_playback(shown)
        seen.most_ahead_s = max(seen.most_ahead_s, sent - shown)
        seen.longest_s = max(seen.longest_s, starved)
    seen.seconds = sent
    return seen


@pytest.mark.parametrize(("rate", "is_steered"), [(0.999, True), (1.0, True), (1.001, True), (1.0, False)])
def test_player_neither_stalls_nor_falls_behind(rate: float, is_steered: bool) -> None:
    seen = watch(rate, is_steered)
    assert seen.starved_s < 2 * KEEP_S, "it waits once, for its first pictures"
    assert seen.most_ahead_s < KEEP_S + 2 * MOMENT_S
    assert seen.seconds == pytest.approx(3600, abs=0.2)


def test_slow_client_clock_is_never_far_behind() -> None:
    seen = watch(0.999)
    assert seen.starved_s < 2 * KEEP_S, "it waits once, for its first pictures"
    assert MAX_AHEAD_S - MOMENT_S < seen.most_ahead_s < MAX_AHEAD_S + 2 * MOMENT_S, "it would be 3.6 s behind"
    assert seen.seconds == pytest.approx(0.999 * 3600 + MAX_AHEAD_S, abs=0.5), "no faster than it shows it"
    assert seen.stalled_s < 0.5


def test_fast_client_clock_waits_only_for_what_it_is_ahead() -> None:
    seen = watch(1.001)
    assert seen.starved_s < 0.001 * 3600 + 2 * KEEP_S
    assert seen.longest_s < 2 * KEEP_S
    assert seen.most_ahead_s < KEEP_S + 2 * MOMENT_S, "nothing piles up"
    assert seen.seconds == pytest.approx(3600, abs=0.2), "the stream runs with our clock"
    assert seen.stalled_s < 1


def test_unwatched_stream_may_run_ahead_of_wall_time() -> None:
    clock = [0.0]
    pace = StreamPacer(MAX_AHEAD_S, lambda: clock[0], speed=10.0)
    assert pace.wait_s(1.0) == pytest.approx(0.1)
    clock[0] = 0.1
    assert pace.wait_s(1.0) == 0
    assert pace.wait_s(3.5) is None, "and waits for its client as ever"
    pace.report_playback(1.0)
    pace.hurry(2.0)
    assert pace.wait_s(2.0) == 0
    assert pace.wait_s(3.0) == pytest.approx(0.1)


def test_wait_s_after_a_late_chunk_continues_from_now() -> None:
    clock = [0.0]
    pace = StreamPacer(3.0, lambda: clock[0])
    assert pace.wait_s(0.0) == 0
    assert pace.wait_s(0.12) == pytest.approx(0.12)
    clock[0] = 2.0
    pace.report_playback(0.1)
    assert pace.wait_s(0.12) == 0
    assert pace.wait_s(0.24) == pytest.approx(0.12), "the stream goes on from now, not as fast as it can"
    assert pace.wait_s(3.2) is None, "the client has not shown enough"


def test_hurry_moves_the_next_chunks_forward() -> None:
    clock = [0.05]
    pace = StreamPacer(3.0, lambda: clock[0])
    assert pace.wait_s(0.08) == pytest.approx(0.08)
    pace.hurry(0.08)
    assert pace.wait_s(0.08) == 0
    assert pace.wait_s(0.16) == pytest.approx(0.08), "as long after it as ever"
    clock[0] = 0.3
    pace.hurry(0.16)
    assert pace.wait_s(0.36) == pytest.approx(0.03), "what is late already waits for nothing"
