"""Tasks of live sessions: pinning an avatar, and cancellation while a message is sent."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import cast

import pytest
from starlette.types import Message
from starlette.websockets import WebSocket

from api.live.client_connection import ClientConnection
from api.live.session_stream import SessionStream
from api.live.session_usage import SessionUsage
from api.live.tasks import keep_avatar_alive
from errors import ReplicaLostError
from jobs.model.compute import ComputeMeter
from jobs.model.usage import LiveUsage
from tests.unit.api.live.live_parts import AVATAR, GreyService
from tests.waiting import until


class Away(GreyService):
    """Fails the first call."""

    def __init__(self) -> None:
        super().__init__()
        self.num_lost = 1
        self.is_held = asyncio.Event()

    async def pin(self, avatar_id: str, owner: str | None) -> None:
        if self.num_lost:
            self.num_lost -= 1
            raise ReplicaLostError("Director.pin: the replica died in each of 4 tries.")
        await super().pin(avatar_id, owner)
        if len(self.held) == 3:
            self.is_held.set()


async def test_keep_avatar_alive_pins_until_cancelled() -> None:
    service = Away()
    task = asyncio.create_task(keep_avatar_alive(service, AVATAR, "a", every_s=0.01))
    await asyncio.wait_for(service.is_held.wait(), 10)
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


class _SlowSocket:
    """Sends a message when it is released."""

    query_params: dict[str, str] = {}

    def __init__(self) -> None:
        self.is_released = asyncio.Event()

    async def send(self, message: Message) -> None:
        await self.is_released.wait()


async def test_send_text_cancelled_as_it_completes_raises() -> None:
    """`asyncio.wait_for` of Python 3.11 returns instead, and a session that was cancelled would go on."""
    socket = _SlowSocket()
    sending = asyncio.create_task(ClientConnection(cast(WebSocket, socket)).send_text("hello"))
    await asyncio.sleep(0.01)
    socket.is_released.set()
    sending.cancel()
    with pytest.raises(asyncio.CancelledError):
        await sending
