"""Limits the segments and jobs in flight by the number of Studio replicas.

Serve scales Studio by the segments that wait for it, so a fixed limit would keep a cluster at its current size. Each
job may always have a few segments in flight, and beyond them a share of what the current Studios can take. That is
slightly more than they can render, so that Serve sees a backlog and adds replicas where it can, and little enough that
the first segment of a new job does not wait behind all of a long one.
"""

from __future__ import annotations

import asyncio

from config import PipelineConfig


class SegmentLimiter:
    """Counts the segments in flight of all jobs; lives in the event loop of the Director."""

    def __init__(self, config: PipelineConfig) -> None:
        self._render, self._jobs = config.render, config.jobs
        self._num_studios = 0
        self._num_in_flight = 0
        self._waiting: list[tuple[SegmentPermits, asyncio.Future[None]]] = []

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

    def permits(self) -> SegmentPermits:
        """Return the permits of one job."""
        return SegmentPermits(self)

    async def acquire(self, permits: SegmentPermits) -> None:
        """Wait for a permit; the waiting job with the fewest segments in flight is served first."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((permits, future))
        self._grant()
        try:
            await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled():
                self.release(permits)
            elif (permits, future) in self._waiting:
                self._waiting.remove((permits, future))
            raise

    def release(self, permits: SegmentPermits) -> None:
        """Return a permit."""
        permits.num_in_flight -= 1
        self._num_in_flight -= 1
        self._grant()

    def _grant(self) -> None:
        while self._waiting:
            permits, future = min(self._waiting, key=lambda waiting: waiting[0].num_in_flight)
            is_own = permits.num_in_flight < self._render.segment_window
            if not is_own and self._num_in_flight >= self._render.segments_per_studio * self._num_studios:
                return
            self._waiting.remove((permits, future))
            if not future.done():
                permits.num_in_flight += 1
                self._num_in_flight += 1
                future.set_result(None)


class SegmentPermits:
    """The permits of one job, one per segment in flight."""

    def __init__(self, limiter: SegmentLimiter) -> None:
        self._limiter = limiter
        self.num_in_flight = 0

    async def acquire(self) -> None:
        """Wait until one more segment may be sent."""
        await self._limiter.acquire(self)

    def release(self) -> None:
        """Return the permit of a segment that has ended."""
        self._limiter.release(self)
