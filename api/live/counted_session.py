"""Counts the sessions of browser tokens."""

from __future__ import annotations

import math
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from api.live.protocol import SessionOptions
from config import LiveConfig
from errors import LipwrightError
from jobs.ports import JobService


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
