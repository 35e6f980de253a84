"""Runs a bounded number of jobs and records how each one ends."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from pydantic import ValidationError

from lipwright.errors import (
    CancelledJobError,
    InProgressError,
    LipwrightError,
    ReplicaLostError,
    StateError,
    StorageFullError,
    UnavailableError,
    internal_error,
)
from lipwright.jobs.housekeeping import delete_finished
from lipwright.jobs.job_trace import context_of, record_queueing
from lipwright.jobs.model.base import ErrorRecord, utc_now
from lipwright.jobs.model.compute import metered
from lipwright.jobs.model.record import JobRecord, JobStage, JobStatus, JobSummary
from lipwright.jobs.progress import record_end
from lipwright.jobs.retry import retry
from lipwright.jobs.run import JobRun
from lipwright.jobs.services import JobServices
from lipwright.telemetry import metrics
from lipwright.telemetry.log_context import call_context

logger = logging.getLogger(__name__)

_TEMPORARY_FAILURES: Final = (StorageFullError, UnavailableError)
"""Failures that end no job: it is resumed once there is disk space and the table can be reached."""
_STOP_TIMEOUT_S = 3.0
_REST_S = 20.0  # the last chunk of a cancelled job ends sooner


class JobScheduler:
    """Runs the jobs of the table in queue order; starts jobs while `may_start()`; lives in the Director."""

    def __init__(self, services: JobServices, may_start: Callable[[], bool] = lambda: True) -> None:
        self._services = services
        self._table, self._files = services.table, services.files
        self._limits = services.config.jobs
        self._may_start = may_start
        self._running: dict[str, asyncio.Task[None]] = {}
        self._starting = asyncio.Lock()  # serialises looking at the queue, so that no job starts twice

    async def resume_unfinished(self) -> None:
        """Requeue jobs that nobody runs: left by an earlier Director, or with a final status that was not persisted.

        A job that was started too often without progress fails.
        """
        async with self._starting:
            for job in await self._table.run_in_thread(self._table.unfinished_jobs):
                if job.id in self._running or job.status is JobStatus.REVIEW:
                    continue
                if job.attempts >= self._limits.max_restarts:
                    message = f"The service stopped during each of {job.attempts} attempts at this job."
                    await self._fail(job, ReplicaLostError(message))
                elif job.status is JobStatus.RUNNING:
                    await self._update(job.id, status=JobStatus.QUEUED, stage=JobStage.QUEUED)
        await self.start_waiting()

    async def start_waiting(self) -> None:
        """Start waiting jobs in queue order, up to the limit.

        Starts none while the disk is full or the table unreachable; `resume_unfinished` is called again.
        """
        try:
            async with self._starting:
                await self._start_waiting()
        except _TEMPORARY_FAILURES as error:
            logger.warning("could not start waiting jobs; will retry: %s", error)

    async def _start_waiting(self) -> None:
        while self._may_start() and len(self._running) < self._services.limiter.max_running_jobs:
            # Queried for each start: a started job moves its owner's other jobs back.
            queued = await self._table.run_in_thread(self._table.queued_jobs)
            job = next((job for job in queued if job.id not in self._running), None)
            if job is None:
                return
            await self._update(job.id, status=JobStatus.RUNNING, attempts=job.attempts + 1)
            try:
                whole = await self._table.run_in_thread(self._table.get_job, job.id)
            except ValidationError as error:  # another version of the service wrote it
                await self._fail(job, internal_error("the row of the job cannot be read", error))
                continue
            if whole.status is not JobStatus.RUNNING:
                continue  # cancelled meanwhile
            if not self._may_start():
                return  # the next leader resumes it
            if job.started_at is None:
                metrics.QUEUE_WAIT.observe(max(0.0, (utc_now() - job.created_at).total_seconds()))
                record_queueing(job)
            self._running[job.id] = asyncio.create_task(self._run(whole))

    async def stop_all(self) -> None:
        """Stop all jobs where they are; another Director resumes them."""
        await asyncio.sleep(0)  # new tasks begin: one that is cancelled before stays in `_running`
        tasks = list(self._running.values())
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=_STOP_TIMEOUT_S)

    async def cancel(self, job: JobRecord) -> JobRecord:
        """Cancel an unfinished job; a finished one is returned unchanged."""
        error = ErrorRecord.of(CancelledJobError("The job was cancelled."))
        cancelled = await self._update(job.id, status=JobStatus.CANCELLED, error=error, stored_bytes=0)
        if not job.status.is_final and cancelled.status is JobStatus.CANCELLED:  # it may have ended meanwhile
            record_end(cancelled)
        await asyncio.sleep(0)  # see `stop_all`
        if (task := self._running.get(job.id)) is not None:
            task.cancel()
        elif cancelled.status is JobStatus.CANCELLED:
            await asyncio.to_thread(self._files.delete_job, job.id)
        return await self._table.run_in_thread(self._table.get_job, job.id)

    async def delete(self, job: JobRecord) -> None:
        """Delete a finished job with its files, and its webhook if that is still undelivered.

        Raises:
            StateError: It is not finished, or its last work is still stopping.
        """
        if not job.status.is_final:
            raise StateError(f"Job {job.id} cannot be deleted while it is {job.status}.")
        if (task := self._running.get(job.id)) is not None:
            _, still_running = await asyncio.wait([task], timeout=_REST_S)
            if still_running:
                raise InProgressError(f"Job {job.id} is {job.status}, but its last work is still stopping.")
        await asyncio.to_thread(delete_finished, self._table, self._files, job.id)

    async def _run(self, job: JobRecord) -> None:
        """Run one job until it ends; the only place where a job fails."""
        with call_context(context_of(job)), metered():
            try:
                status = await retry(lambda: JobRun(self._services, job).run(), self._limits)
                if status is JobStatus.REVIEW:
                    await retry(lambda: self._update(job.id, status=status, reviewed_at=utc_now()), self._limits)
                else:
                    await self._end(job, status, stage=JobStage.DONE, progress=1.0)
            except asyncio.CancelledError:
                logger.info("job stopped")
            except UnavailableError as error:
                logger.warning("job stopped; it will be resumed: %s", error)
            except LipwrightError as error:
                await self._fail(job, error)
            finally:
                self._running.pop(job.id, None)
                await self._leave(job)

    async def _leave(self, job: JobRecord) -> None:
        # Only a cancelled job loses its files: a service that shuts down leaves its jobs to be resumed.
        with suppress(UnavailableError):
            if (await self._table.run_in_thread(self._table.get_job, job.id)).status is JobStatus.CANCELLED:
                await asyncio.to_thread(self._files.delete_job, job.id)
        await self.start_waiting()

    async def _update(self, job_id: str, **fields: object) -> JobSummary:
        return await self._table.run_in_thread(self._table.update_job, job_id, **fields)

    async def _record_end(self, job: JobSummary, **fields: object) -> JobSummary:
        num_bytes = await asyncio.to_thread(self._files.job_bytes, job.id)
        return await self._update(job.id, stored_bytes=num_bytes, **fields)

    async def _fail(self, job: JobSummary, error: LipwrightError) -> None:
        logger.warning("job failed: %s: %s", error.code, error)
        await self._end(job, JobStatus.FAILED, error=ErrorRecord.of(error))

    async def _end(self, job: JobSummary, status: JobStatus, **fields: object) -> None:
        """Persist how a job ended, unless another Director has taken over and owns the job and its files."""
        try:
            await self._table.run_in_thread(self._table.database.check_claim)
            # First, because on a full disk this frees the space for the row.
            is_kept = status is JobStatus.SUCCEEDED and self._limits.max_revision_bytes > 0
            await asyncio.to_thread(self._files.delete_speech if is_kept else self._files.delete_segments, job.id)
            try:
                ended = await self._record_end(job, status=status, **fields)
            except StorageFullError:
                await asyncio.to_thread(self._files.delete_segments, job.id)
                ended = await self._record_end(job, status=status, **fields)
        except _TEMPORARY_FAILURES as error:
            logger.warning("could not persist the final status; the job will be resumed: %s", error)
            return
        if ended.status is status:  # not cancelled meanwhile
            logger.info("job %s", status.value)
            record_end(ended)
