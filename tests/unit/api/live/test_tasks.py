"""An avatar that is shown is held, also across a short outage of the service."""

from __future__ import annotations

import asyncio

from api.live.tasks import keep_avatar_alive
from errors import ReplicaLostError
from tests.unit.api.live.live_parts import AVATAR, GreyService


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


async def test_it_is_held_again_and_again() -> None:
    service = Away()
    task = asyncio.create_task(keep_avatar_alive(service, AVATAR, "a", every_s=0.01))
    await asyncio.wait_for(service.is_held.wait(), 10)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    num = len(service.held)
    await asyncio.sleep(0.05)
    assert len(service.held) == num, "until the session is over"
    assert set(service.held) == {(AVATAR, "a")}
