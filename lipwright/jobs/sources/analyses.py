"""Analyses avatars that callers create, before a job or a session needs them."""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from lipwright.errors import LipwrightError, UnavailableError, internal_error
from lipwright.jobs.single_flight import ignore_progress
from lipwright.jobs.sources.avatars import Avatars
from lipwright.jobs.usage import counted_compute
from lipwright.storage.job_table import JobTable
from lipwright.storage.row_codec import AvatarRecord
from lipwright.telemetry.log_context import CallContext, call_context, current_trace
from lipwright.telemetry.tracing import span, trace_of_id

logger = logging.getLogger(__name__)

_STOP_TIMEOUT_S: Final = 3.0


class AvatarAnalyses:
    """Analyses avatars in the background.

    Args:
        avatars: The avatars, whose rows get the errors of their analyses.
        table: The job table, which counts the compute time.
        engine: The engine for which they are analysed.
        slots: Limits how many are analysed at a time.
    """

    def __init__(self, avatars: Avatars, table: JobTable, engine: str, slots: asyncio.Semaphore) -> None:
        self._avatars, self._table, self._engine, self._slots = avatars, table, engine, slots
        self._running: dict[str, asyncio.Task[None]] = {}

    def start(self, avatar: AvatarRecord) -> None:
        """Start the analysis of an avatar or a clip, unless it is running."""
        if avatar.key not in self._running:
            task = self._running[avatar.key] = asyncio.create_task(self._run(avatar))
            task.add_done_callback(lambda _: self._running.pop(avatar.key, None))

    async def resume(self) -> None:
        """Start the analyses that nobody does: an earlier Director left them, or an outage ended them."""
        for avatar in await self._table.run_in_thread(self._table.analysing_avatars):
            self.start(avatar)

    async def cancel(self, key: str) -> None:
        """Cancel the analysis of an avatar that is deleted, if it is running; wait at most 3 s for its end."""
        if (task := self._running.get(key)) is not None:
            task.cancel()
            await asyncio.wait([task], timeout=_STOP_TIMEOUT_S)

    def stop(self) -> None:
        """Cancel all analyses, because another service leads."""
        for task in self._running.values():
            task.cancel()

    async def _run(self, avatar: AvatarRecord) -> None:
        context = CallContext(avatar.key, trace=current_trace() or trace_of_id(avatar.key))
        try:
            async with self._slots, counted_compute(self._table, avatar.owner):
                with call_context(context), span("avatar"):
                    await self._analyse(avatar)
        except LipwrightError as error:
            logger.warning("analysis of avatar %s will be resumed: %s", avatar.key, error)

    async def _analyse(self, avatar: AvatarRecord) -> None:
        key = avatar.key
        if avatar.belongs_to is not None and not avatar.parts:
            await self._ensure(key, None)
            key = await self._avatars.composite_of(avatar.belongs_to, is_ahead=True)
        await self._ensure(key, self._engine)

    async def _ensure(self, key: str, engine: str | None) -> None:
        try:
            await self._avatars.ensure(key, engine, ignore_progress)
        except UnavailableError:
            raise
        except Exception as error:
            cause = error if isinstance(error, LipwrightError) else internal_error("the analysis failed", error)
            logger.warning("analysis of avatar %s failed: %s", key, cause, exc_info=cause is not error)
            await self._avatars.record_failure(key, cause)
