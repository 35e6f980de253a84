"""Delivers signed webhooks to the `callback_url` of finished jobs, with retries up to a limit.

Pending webhooks are rows of the job table, so delivery continues after a restart.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any

from pydantic import ValidationError

from lipwright.config import NetworkConfig
from lipwright.errors import (
    LipwrightError,
    NotFoundError,
    StorageFullError,
    TableUnreachableError,
    UnavailableError,
    UrlRefusedError,
    internal_error,
)
from lipwright.jobs.job_trace import context_of, trace_headers
from lipwright.jobs.model.base import utc_now
from lipwright.jobs.model.record import CallbackRecord, CallbackStatus, JobRecord
from lipwright.net.webhook import MAX_ATTEMPTS, deliver, longest_delay_s, retry_delay_s
from lipwright.storage.job_table import JobTable
from lipwright.telemetry import metrics
from lipwright.telemetry.log_context import CallContext, call_context
from lipwright.telemetry.tracing import span

logger = logging.getLogger(__name__)

_MAX_IN_FLIGHT = 8
_PERIOD_S = 2.0
_FULL_PAUSE_S = 60.0  # between attempts that a full disk keeps from being recorded


class Webhooks:
    """Delivers the webhooks of one job table; lives in the Director."""

    def __init__(
        self,
        network: NetworkConfig,
        table: JobTable,
        secret_of: Callable[[str | None], str],
        view_of: Callable[[JobRecord], Mapping[str, Any]],
    ) -> None:
        """Prepare delivery; `run` does the work.

        `secret_of` returns the signing secret of a job's owner, and `view_of` the view of a job that the API shows.
        """
        self._network, self._view_of = network, view_of
        self._table = table
        self._secret_of = secret_of
        self._in_flight: dict[str, asyncio.Task[None]] = {}

    async def run(self) -> None:
        """Deliver pending webhooks until cancelled."""
        while True:
            for callback in await self._pending_callbacks():
                is_free = callback.job_id not in self._in_flight and len(self._in_flight) < _MAX_IN_FLIGHT
                if is_free and _is_due(callback):
                    self._in_flight[callback.job_id] = asyncio.create_task(self._attempt(callback))
            await asyncio.sleep(_PERIOD_S)

    async def _pending_callbacks(self) -> list[CallbackRecord]:
        try:
            return await self._table.run_in_thread(self._table.pending_callbacks, _MAX_IN_FLIGHT)
        except TableUnreachableError as error:
            logger.warning("webhooks are delayed: %s", error)
            return []

    async def _attempt(self, callback: CallbackRecord) -> None:
        with call_context(CallContext(callback.job_id)):
            try:
                await self._deliver_and_record(callback)
            except NotFoundError:
                return  # the job was deleted, and its webhook with it
            except UnavailableError as error:
                logger.warning("webhook: the leading Director will retry it: %s", error)
            except StorageFullError:
                logger.warning("webhook: could not record the attempt because the disk is full; it will be repeated")
                await asyncio.sleep(_FULL_PAUSE_S)
            finally:
                self._in_flight.pop(callback.job_id, None)

    async def _deliver_and_record(self, callback: CallbackRecord) -> None:
        try:
            job = await self._table.run_in_thread(self._table.get_job, callback.job_id)
        except ValidationError as error:  # another version of the service wrote it
            await self._record_failure(callback, internal_error("the row of the job cannot be read", error))
            return
        with call_context(context_of(job)):
            await self._deliver_job(job, callback)

    async def _deliver_job(self, job: JobRecord, callback: CallbackRecord) -> None:
        try:
            with span("webhook", attempt=callback.attempts + 1):
                await self._deliver(job)
        except LipwrightError as error:
            await self._record_failure(callback, error)
        except Exception as error:  # an attempt that is not recorded would be repeated at once
            logger.exception("webhook: unexpected error")
            await self._record_failure(callback, LipwrightError(f"internal error: {type(error).__name__}"))
        else:
            metrics.CALLBACKS.add(1, "delivered")
            await self._record(callback, CallbackStatus.DELIVERED, None)

    async def _deliver(self, job: JobRecord) -> None:
        assert job.callback_url is not None
        event = {
            "type": f"job.{job.status.value}",
            "timestamp": (job.finished_at or utc_now()).isoformat(),
            "data": self._view_of(job),
        }
        payload = json.dumps(event, ensure_ascii=False).encode()
        # The event id is the job id, so that a receiver can drop duplicates.
        secret = await asyncio.to_thread(self._secret_of, job.owner)
        await deliver(job.callback_url, secret, job.id, payload, self._network, trace_headers())

    async def _record_failure(self, callback: CallbackRecord, error: LipwrightError) -> None:
        is_refused = isinstance(error, UrlRefusedError)
        is_last = callback.attempts + 1 >= MAX_ATTEMPTS
        metrics.CALLBACKS.add(1, "refused" if is_refused else "given_up" if is_last else "retried")
        status = CallbackStatus.FAILED if is_refused or is_last else CallbackStatus.PENDING
        await self._record(callback, status, error)

    async def _record(self, callback: CallbackRecord, status: CallbackStatus, error: LipwrightError | None) -> None:
        attempts = callback.attempts + 1
        if error is not None:
            logger.warning("webhook: attempt %d failed: %s", attempts, error)
        wait = timedelta(seconds=retry_delay_s(attempts))
        record = CallbackRecord(
            job_id=callback.job_id,
            status=status,
            attempts=attempts,
            next_at=utc_now() + wait,
            error=None if error is None else str(error),
        )
        await self._table.run_in_thread(self._table.put_callback, record)


def _is_due(callback: CallbackRecord) -> bool:
    left_s = (callback.next_at - utc_now()).total_seconds()
    return left_s <= 0 or left_s > longest_delay_s(callback.attempts)  # longer: the clock was set back
