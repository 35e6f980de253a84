"""Reports what a live session uses."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from lipwright.api.live.session_stream import SessionStream
from lipwright.errors import LipwrightError
from lipwright.jobs.model.compute import ComputeMeter
from lipwright.jobs.model.usage import LiveUsage
from lipwright.rendering.live_chunk import LiveService

_REPORT_EVERY_S: Final = 30.0  # a crash of the Ingress loses this much


@dataclass
class SessionUsage:
    """What one session has used since its start.

    Attributes:
        session_id: The session.
        owner: The caller that started it; None without API keys.
        meter: Measures its calls.
        stream: What is sent, once it is prepared.
    """

    session_id: str
    owner: str | None
    meter: ComputeMeter
    stream: SessionStream | None = None

    def total(self, *, is_over: bool = False) -> LiveUsage:
        """Return the usage until now."""
        return LiveUsage(
            session_id=self.session_id,
            owner=self.owner,
            live_seconds=0.0 if self.stream is None else self.stream.seconds,
            compute=self.meter.total,
            is_over=is_over,
        )

    async def report(self, service: LiveService, every_s: float = _REPORT_EVERY_S) -> None:
        """Report the usage periodically until the task is cancelled."""
        while True:
            await asyncio.sleep(every_s)
            with suppress(LipwrightError):  # the next report includes it
                await service.report(self.total())
