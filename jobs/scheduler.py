"""The scheduler: a bounded number of jobs at work, each with an ending, whatever it is."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from errors import (
    CancelledJobError,
    InProgressError,
    LipwrightError,
    ReplicaLostError,
    StateError,
    StorageFullError,
    UnavailableError,
)
from jobs.retry import retry
from jobs.run import JobRun, JobServices
from storage.records import ErrorRecord, JobRecord, JobStage, JobStatus, utc_now
from telemetry import metrics
from telemetry.log_context import CallContext, call_context

logger = logging.getLogger("ray.serve")

_TEMPORARY_FAILURES: Final = (StorageFullError, UnavailableError)
"""What ends no job: it is taken up again when there is room, and a table that can be reached."""
_STOP_TIMEOUT_S = 3.0
_REST_S = 20.0  # a cancelled job's last chunk of work ends in less


class JobScheduler:
    """Runs the jobs of the table in the queue's order; lives in the Director.

    Args:
        services: What runs work with.
        is_leader: Whether this Director may run jobs at the moment.
    """

    def __init__(self, services: JobServices, is_leader: Callable[[], bool] = lambda: True) -> None:
        self._services = services
        self._table, self._files = services.table, services.files
        self._limits = services.config.jobs
        self._is_leader = is_leader
        self._running: dict[str, asyncio.Task[None]] = {}
        self._starting = asyncio.Lock()  # one look at the queue at a time: a job is started once

    async def resume_unfinished(self) -> None:
        """Queue again what nobody works on: an earlier Director did, or its ending could not be written down.

        What has been tried too often without any progress fails.
        """
        async with self._starting:
            for job in await self._table.run_in_thread(self._table.unfinished_jobs):
                if job.id in self._running:
                    continue
                if job.attempts >= self._limits.max_restarts:
                    message = f"The service ended in each of {job.attempts} tries of this job."
                    await self._fail(job, ReplicaLostError(message))
                elif job.status is JobStatus.RUNNING:
                    await self._update(job.id, status=JobStatus.QUEUED, stage=JobStage.QUEUED)
        await self.start_waiting()

    async def start_waiting(self) -> None:
        """Start waiting jobs in order while there is room.

        On a full disk, or while the table cannot be reached, none is started; `resume_unfinished` comes again.
        """
        try:
            async with self._starting:
                await self._start_waiting()
        except _TEMPORARY_FAILURES as error:
            logger.warning("waiting jobs cannot be started at the moment: %s", error)

    async def _start_waiting(self) -> None:
        while self._is_leader() and len(self._running) < self._services.limiter.max_running_jobs:
            # Asked anew for each: a job that starts moves its owner's others back.
            queued = await self._table.run_in_thread(self._table.queued_jobs)
            job = next((job for job in queued if job.id not in self._running), None)
            if job is None:
                return
            started = await self._update(job.id, status=JobStatus.RUNNING, attempts=job.attempts + 1)
            if started.status is not JobStatus.RUNNING:
                continue  # cancelled meanwhile
            if not self._is_leader():
                return  # whoever leads next takes it up
            if job.started_at is None:
                metrics.job_started((utc_now() - job.created_at).total_seconds())
            self._running[job.id] = asyncio.create_task(self._run(started))

    async def stop_all(self) -> None:
        """Stop all jobs where they are, for another Director to go on with."""
        tasks = list(self._running.values())
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=_STOP_TIMEOUT_S)

    async def cancel(self, job: JobRecord) -> JobRecord:
        """Cancel a job that is not finished; a finished one is returned as it is."""
        error = ErrorRecord.of(CancelledJobError("The job was cancelled."))
        cancelled = await self._update(job.id, status=JobStatus.CANCELLED, error=error)
        if not job.status.is_final:
            metrics.job_finished(cancelled.status.value, CancelledJobError.code)
        if (task := self._running.get(job.id)) is not None:
            task.cancel()
        elif cancelled.status is JobStatus.CANCELLED:
            await asyncio.to_thread(self._files.delete_job, job.id)
        return cancelled

    async def delete(self, job: JobRecord) -> None:
        """Forget a finished job with its files, and with its webhook if that was not delivered yet.

        Raises:
            StateError: It is not finished, or its work has not come to rest yet.
        """
        if not job.status.is_final:
            raise StateError(f"Job {job.id} cannot be deleted: expected it to be finished, found it {job.status}.")
        if (task := self._running.get(job.id)) is not None:
            _, still_running = await asyncio.wait([task], timeout=_REST_S)
            if still_running:
                raise InProgressError(f"Job {job.id} is {job.status}, and its last work is still ending.")
        # The files go first: a row without files is swept again, files without a row have to be searched for.
        await asyncio.to_thread(self._files.delete_job, job.id)
        await self._table.run_in_thread(self._table.delete_job, job.id)

    async def _run(self, job: JobRecord) -> None:
        """Run one job to its end, whatever that is; the only place where a job fails."""
        with call_context(CallContext(job.id)):
            try:
                await retry(lambda: JobRun(self._services, job).run(), self._limits.max_attempts)
                await self._end(job, JobStatus.SUCCEEDED, stage=JobStage.DONE, progress=1.0)
            except asyncio.CancelledError:
                logger.info("job stopped")
            except UnavailableError as error:
                logger.warning("job stopped, to be taken up again: %s", error)
            except LipwrightError as error:
                await self._fail(job, error)
            finally:
                self._running.pop(job.id, None)
                await self._leave(job)

    async def _leave(self, job: JobRecord) -> None:
        # Not every stop is the owner's: a service that shuts down leaves its jobs to be taken up again.
        with suppress(UnavailableError):
            if (await self._table.run_in_thread(self._table.get_job, job.id)).status is JobStatus.CANCELLED:
                await asyncio.to_thread(self._files.delete_job, job.id)
        await self.start_waiting()

    async def _update(self, job_id: str, **fields: object) -> JobRecord:
        return await self._table.run_in_thread(self._table.update_job, job_id, **fields)

    async def _fail(self, job: JobRecord, error: LipwrightError) -> None:
        logger.warning("job failed: %s: %s", error.code, error)
        await self._end(job, JobStatus.FAILED, error.code, error=ErrorRecord.of(error))

    async def _end(self, job: JobRecord, status: JobStatus, code: str = "none", **fields: object) -> None:
        """Write down how a job ended.

        Raises:
            StateError: Another Director has taken over; the job and its files are in its hands.
        """
        try:
            await self._table.run_in_thread(self._table.check_claim)
            # First: on a full disk, this makes the room for the row.
            await asyncio.to_thread(self._files.delete_segments, job.id)
            ended = await self._update(job.id, status=status, **fields)
        except _TEMPORARY_FAILURES as error:
            logger.warning("the ending cannot be written down, the job is taken up again: %s", error)
            return
        if ended.status is status:  # not cancelled meanwhile
            logger.info("job %s", status.value)
            metrics.job_finished(status.value, code)
