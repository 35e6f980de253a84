"""An avatar that is shown stays, also one that nobody asked to keep."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Final

from errors import LipwrightError
from jobs.messages import HOLD_S
from rendering.live_chunk import LiveService

_EVERY_S: Final = HOLD_S / 3  # two of them may be lost


async def keep_avatar_alive(service: LiveService, avatar_id: str, owner: str | None, every_s: float = _EVERY_S) -> None:
    """Hold an avatar again and again until the task is cancelled; a service that cannot be told is told later."""
    while True:
        with suppress(LipwrightError):
            await service.hold(avatar_id, owner)
        await asyncio.sleep(every_s)
