"""Tasks of live sessions: waiting for the first one, cancelling all, and keeping the avatar in the cache."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable
from contextlib import suppress
from typing import Any, Final

from errors import LipwrightError
from jobs.messages import PIN_S
from rendering.live_chunk import LiveService

_PIN_EVERY_S: Final = PIN_S / 3  # two calls may be lost


async def first_ended(*works: Coroutine[Any, Any, Any] | asyncio.Task[None]) -> None:
    """Wait until one of several coroutines or tasks ends, cancel the others, and raise what it raised."""
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        await cancel_all(tasks)


async def cancel_all(tasks: Iterable[asyncio.Future[Any]]) -> None:
    """Cancel tasks and wait until they have ended, however they do."""
    ending = list(tasks)
    for task in ending:
        task.cancel()
    await asyncio.gather(*ending, return_exceptions=True)


async def keep_avatar_alive(
    service: LiveService, avatar_id: str, owner: str | None, every_s: float = _PIN_EVERY_S
) -> None:
    """Pin an avatar periodically until the task is cancelled. Failed calls are retried with the next period."""
    while True:
        with suppress(LipwrightError):
            await service.pin(avatar_id, owner)
        await asyncio.sleep(every_s)
