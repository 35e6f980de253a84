"""Removes finished jobs after their retention time, and files without an owner."""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import suppress
from datetime import timedelta

from lipwright.config import JobConfig
from lipwright.errors import CancelledJobError, LipwrightError, StorageFullError
from lipwright.jobs.model.base import ErrorRecord, utc_now
from lipwright.jobs.model.record import JobStatus
from lipwright.jobs.progress import record_end
from lipwright.jobs.segments.kept import KeptSegments
from lipwright.jobs.sources.avatars import Avatars
from lipwright.jobs.sources.backgrounds import Backgrounds
from lipwright.storage.cues import CueStore
from lipwright.storage.file_store import FileStore
from lipwright.storage.job_table import JobTable
from lipwright.telemetry import metrics
from lipwright.telemetry.clock_steps import ClockSteps

logger = logging.getLogger(__name__)

_MAX_PERIOD_S = 60.0
_JOBS_AT_ONCE = 100
_ORPHAN_AGE_S = 3600.0
_MAX_CLOCK_STEP_S = 60.0


def delete_finished(table: JobTable, files: FileStore, job_id: str) -> None:
    """Delete a finished job. Its row is deleted first, so that nobody finds a job whose files are being removed."""
    with suppress(StorageFullError):  # removing the files makes room for the change of the table
        table.delete_job(job_id)
    files.delete_job(job_id)
    table.delete_job(job_id)


class Housekeeping:
    """Sweeps the job table and the stored files; lives in the Director."""

    def __init__(
        self,
        limits: JobConfig,
        table: JobTable,
        files: FileStore,
        avatars: Avatars,
        backgrounds: Backgrounds,
        segments: KeptSegments,
        cues: CueStore,
        clock: ClockSteps | None = None,
    ) -> None:
        self._limits = limits
        self._table = table
        self._files = files
        self._avatars, self._backgrounds, self._segments, self._cues = avatars, backgrounds, segments, cues
        self._clock = clock or ClockSteps()
        self._ages_known_at = time.monotonic()
        self._ended: set[str] = set()  # jobs whose files stay until their rows are deleted

    async def run(self) -> None:
        """Sweep periodically until cancelled."""
        period_s = min(_MAX_PERIOD_S, self._limits.retention_s / 4)
        while True:
            try:
                await self._avatars.sweep()
                if self._knows_ages():
                    await asyncio.to_thread(self.sweep)
                    await self._avatars.sweep_orphans(_ORPHAN_AGE_S)
                    await self._backgrounds.sweep()
                if (free_bytes := self._files.stored.free_bytes()) is not None:
                    metrics.FREE_DISK.set(free_bytes)
            except (OSError, LipwrightError, ValueError) as error:  # ValueError: another version wrote a row
                logger.warning("sweep failed; will retry: %s", error)
            await asyncio.sleep(period_s)

    def _knows_ages(self) -> bool:
        """Return whether ages of files are real: not for an hour after the wall clock was set forward.

        Uploads in progress would look like orphans.
        """
        now = time.monotonic()
        if (step_s := self._clock.next_step_s()) > _MAX_CLOCK_STEP_S:
            logger.warning("the clock was set forward by %.0f s; no files are removed for an hour", step_s)
            self._ages_known_at = now + _ORPHAN_AGE_S
        return now >= self._ages_known_at

    def sweep(self) -> None:
        """Remove finished jobs after their retention time, and orphaned files. Blocks on the disk."""
        self._sweep_drafts()
        self._cues.sweep()
        self._sweep_finished()
        self._files.sweep_uploads(_ORPHAN_AGE_S)
        job_ids = self._files.job_ids(_ORPHAN_AGE_S)
        self._ended.intersection_update(job_ids)
        for job_id in job_ids:
            if job_id in self._ended:
                continue
            job = self._table.known_job(job_id)
            if job is None or job.status is JobStatus.CANCELLED:
                self._files.delete_job(job_id)
            elif job.status.is_final:
                self._ended.add(job_id)
        self._segments.sweep()

    def _sweep_drafts(self) -> None:
        """Cancel jobs in review that have not changed during the retention time."""
        before = utc_now() - timedelta(seconds=self._limits.retention_s)
        reason = f"The job was not approved within {self._limits.retention_s:.0f} s (jobs.retention_s)."
        error = ErrorRecord.of(CancelledJobError(reason))
        with self._table.database.transaction():  # so that none is approved in between
            cancelled = [
                self._table.update_job(job.id, status=JobStatus.CANCELLED, error=error, stored_bytes=0)
                for job in self._table.unfinished_jobs()
                if job.status is JobStatus.REVIEW and (job.reviewed_at or job.created_at) < before
            ]
        for job in cancelled:
            record_end(job)
            self._files.delete_job(job.id)

    def _sweep_finished(self) -> None:
        before = utc_now() - timedelta(seconds=self._limits.retention_s)
        while jobs := self._table.finished_jobs(before, _JOBS_AT_ONCE):
            for job in jobs:
                delete_finished(self._table, self._files, job.id)
            logger.info("removed %d finished jobs after %.0f s", len(jobs), self._limits.retention_s)
