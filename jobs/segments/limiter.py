"""Limits the segments and jobs in flight by the number of Studio replicas.

Serve scales Studio by the segments that wait for it, so a fixed limit would keep a cluster at its current size. Each
job may always have a few segments in flight, and beyond them a share of what the current Studios can take. That is
slightly more than they can render, so that Serve sees a backlog and adds replicas where it can, and little enough that
the first segment of a new job does not wait behind all of a long one.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import suppress

from config import PipelineConfig


class SegmentLimiter:
    """Counts the segments in flight of all jobs; lives in the event loop of the Director."""

    def __init__(self, config: PipelineConfig) -> None:
        self._render, self._jobs = config.render, config.jobs
        self._num_studios = 0
        self.num_in_flight: Counter[str] = Counter()  # by job id
        self.num_planned: Counter[str] = Counter()  # by job id: neither in flight nor finished
        self._waiting: list[tuple[str, asyncio.Future[None]]] = []
        self._is_draining, self._is_drained = False, asyncio.Event()

    @property
    def max_running_jobs(self) -> int:
        """How many jobs may run: `jobs.max_running_jobs`, or more if there are Studios for more."""
        return max(self._jobs.max_running_jobs, self._jobs.running_jobs_per_studio * self._num_studios)

    @property
    def follows_studios(self) -> bool:
        """Whether the limits depend on the number of Studios."""
        return self._render.segments_per_studio > 0 or self._jobs.running_jobs_per_studio > 0

    def set_num_studios(self, num_studios: int) -> None:
        """Set the number of running Studios."""
        self._num_studios = num_studios
        self._grant()

    async def acquire(self, job_id: str) -> None:
        """Wait until the job may have one more segment in flight; the waiting job with the fewest is served first."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((job_id, future))
        self._grant()
        try:
            await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled():
                self.release(job_id)
            elif (job_id, future) in self._waiting:
                self._waiting.remove((job_id, future))
            raise

    def release(self, job_id: str) -> None:
        """Note that a segment has ended."""
        self.num_in_flight[job_id] -= 1
        self.num_in_flight += Counter()  # removes jobs without segments
        self._grant()

    def release_all(self, job_id: str) -> None:
        """Note that no segment of the job is planned or in flight, also none that was cancelled before it began."""
        del self.num_in_flight[job_id], self.num_planned[job_id]
        self._grant()

    async def drain(self, max_s: float) -> bool:
        """Start no more segments; return whether those in flight ended within `max_s` seconds."""
        self._is_draining = True
        self._grant()
        with suppress(TimeoutError):
            async with asyncio.timeout(max_s):
                await self._is_drained.wait()
        return self._is_drained.is_set()

    def _grant(self) -> None:
        if self._is_draining:
            if not self.num_in_flight:
                self._is_drained.set()
            return
        while self._waiting:
            job_id, future = min(self._waiting, key=lambda waiting: self.num_in_flight[waiting[0]])
            is_own = self.num_in_flight[job_id] < self._render.segment_window
            if not is_own and self.num_in_flight.total() >= self._render.segments_per_studio * self._num_studios:
                return
            self._waiting.remove((job_id, future))
            if not future.done():
                self.num_in_flight[job_id] += 1
                future.set_result(None)
