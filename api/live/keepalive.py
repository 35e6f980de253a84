"""Keep-alive: prevents the avatar of a live session from being evicted from the cache."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Final

from errors import LipwrightError
from jobs.messages import HOLD_S
from rendering.live_chunk import LiveService

_EVERY_S: Final = HOLD_S / 3  # two calls may be lost


async def keep_avatar_alive(service: LiveService, avatar_id: str, owner: str | None, every_s: float = _EVERY_S) -> None:
    """Hold an avatar periodically until the task is cancelled. Failed calls are retried with the next period."""
    while True:
        with suppress(LipwrightError):
            await service.hold(avatar_id, owner)
        await asyncio.sleep(every_s)
