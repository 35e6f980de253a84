"""What live sessions do beside the stream: tasks, keeping the avatar in the cache, and counting those of tokens."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator, Coroutine, Iterable
from contextlib import asynccontextmanager, suppress
from typing import Any, Final

from lipwright.api.live.protocol import SessionOptions
from lipwright.config import LiveConfig
from lipwright.errors import LipwrightError
from lipwright.jobs.messages import PIN_S
from lipwright.jobs.ports import JobService
from lipwright.rendering.live_chunk import LiveService

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


@asynccontextmanager
async def counted_session(jobs: JobService, options: SessionOptions, live: LiveConfig) -> AsyncIterator[LiveConfig]:
    """Count the session of a token during the block, which gets its limits.

    Raises:
        ForbiddenError: The token grants no further session.
    """
    if options.grant is None:
        yield live
        return
    seconds = await jobs.start_token_session(options.session_id, options.grant)
    begun_at = time.monotonic()
    try:
        yield live.model_copy(update={"max_session_s": min(seconds, live.max_session_s)})
    finally:
        with suppress(LipwrightError):  # then all of its seconds count
            lasted = min(seconds, math.ceil(time.monotonic() - begun_at))
            await jobs.end_token_session(options.session_id, lasted)
