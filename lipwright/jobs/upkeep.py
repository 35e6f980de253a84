"""The periodic work of the leading Director: what nobody works on, metrics, disk space, and the number of Studios."""

from __future__ import annotations

import asyncio
import logging
from typing import Final, Protocol

from lipwright.errors import LipwrightError
from lipwright.jobs.admission import AdmissionController, QueueState
from lipwright.jobs.disk_space import DiskSpace
from lipwright.jobs.requests import ReplicaStatus
from lipwright.jobs.scheduler import JobScheduler
from lipwright.jobs.segments.limiter import SegmentLimiter
from lipwright.jobs.sources.analyses import AvatarAnalyses
from lipwright.storage.job_table import JobTable
from lipwright.telemetry import metrics

logger = logging.getLogger(__name__)

_PERIOD_S: Final = 5.0


class ReplicaCounts(Protocol):
    """Reports how many replicas of each deployment run."""

    async def read(self) -> dict[str, ReplicaStatus]:
        """Return the replicas by deployment."""


class Upkeep:
    """Does the periodic work; its parts are those of the Director."""

    def __init__(
        self,
        scheduler: JobScheduler,
        analyses: AvatarAnalyses,
        admission: AdmissionController,
        limiter: SegmentLimiter,
        table: JobTable,
        space: DiskSpace,
        replicas: ReplicaCounts,
    ) -> None:
        self._scheduler, self._analyses, self._admission, self._limiter = scheduler, analyses, admission, limiter
        self._table, self._space, self._replicas = table, space, replicas

    async def run(self) -> None:
        """Resume unfinished jobs and analyses, and follow the load and the number of Studios, until cancelled."""
        while True:
            try:
                await self._space.keep_free()  # first, because the table may need the space
                await self._scheduler.resume_unfinished()
                await self._analyses.resume()
                self._report_load(await self._table.run_in_thread(self._admission.state))
            except (LipwrightError, ValueError) as error:  # ValueError: another version wrote a row
                # Usually a full disk: reads still work, and jobs continue once there is space.
                logger.warning("could not resume unfinished work; will retry: %s", error)
            # The query takes Serve 40 ms of processor time.
            if self._limiter.follows_studios and (studio := (await self._replicas.read()).get("Studio")) is not None:
                self._limiter.set_num_studios(studio.num_running)
            await asyncio.sleep(_PERIOD_S)

    def report_no_load(self) -> None:
        """Report that this Director has no load, because another one leads."""
        self._report_load(QueueState(0, 0, 0, 0, 0))

    def _report_load(self, state: QueueState) -> None:
        metrics.JOBS_WAITING.set(state.num_jobs)
        metrics.JOBS_RUNNING.set(state.num_running)
        metrics.QUEUED_BYTES.set(state.num_bytes)
        metrics.SEGMENTS_WAITING.set(self._limiter.num_planned.total())
        metrics.SEGMENTS_RUNNING.set(self._limiter.num_in_flight.total())
