"""How many segments and jobs are in flight, by how many Studios there are to render them.

Studio's replicas follow the segments that wait for them, so a fixed permits would hold a cluster at its own size: a job
has its own few segments in any case, and beyond them a share of what the Studios of now can take. That is a little more
than they can do, so that Serve sees work waiting and adds replicas while there is a place for them, and little enough
that a newcomer's first segment does not wait behind the whole of a long job.
"""

from __future__ import annotations

import asyncio

from config import PipelineConfig


class SegmentLimiter:
    """The segments in flight of all jobs; lives in the Director's event loop."""

    def __init__(self, config: PipelineConfig) -> None:
        self._render, self._jobs = config.render, config.jobs
        self._num_studios = 0
        self._num_in_flight = 0
        self._waiting: list[tuple[SegmentPermits, asyncio.Future[None]]] = []

    @property
    def max_running_jobs(self) -> int:
        """Jobs that may be at work: `jobs.max_running_jobs`, or more where there are Studios for more."""
        return max(self._jobs.max_running_jobs, self._jobs.running_jobs_per_studio * self._num_studios)

    @property
    def follows_studios(self) -> bool:
        """Whether it matters how many Studios run."""
        return self._render.segments_per_studio > 0 or self._jobs.running_jobs_per_studio > 0

    def set_num_studios(self, num_studios: int) -> None:
        """Note how many Studios run."""
        self._num_studios = num_studios
        self._hand_out()

    def permits(self) -> SegmentPermits:
        """The permits of one job."""
        return SegmentPermits(self)

    async def take(self, permits: SegmentPermits) -> None:
        """Wait for a place; among those who wait, the job with the fewest segments in flight is next."""
        place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((permits, place))
        self._hand_out()
        try:
            await place
        except asyncio.CancelledError:
            if place.done() and not place.cancelled():
                self.give_back(permits)
            elif (permits, place) in self._waiting:
                self._waiting.remove((permits, place))
            raise

    def give_back(self, permits: SegmentPermits) -> None:
        """Free a place."""
        permits.num_in_flight -= 1
        self._num_in_flight -= 1
        self._hand_out()

    def _hand_out(self) -> None:
        while self._waiting:
            permits, place = min(self._waiting, key=lambda waiting: waiting[0].num_in_flight)
            is_own = permits.num_in_flight < self._render.segment_window
            if not is_own and self._num_in_flight >= self._render.segments_per_studio * self._num_studios:
                return
            self._waiting.remove((permits, place))
            if not place.done():
                permits.num_in_flight += 1
                self._num_in_flight += 1
                place.set_result(None)


class SegmentPermits:
    """The segments in flight of one job."""

    def __init__(self, limiter: SegmentLimiter) -> None:
        self._limiter = limiter
        self.num_in_flight = 0

    async def acquire(self) -> None:
        """Wait until one more segment may be sent."""
        await self._limiter.take(self)

    def release(self) -> None:
        """Say that a segment has come back, or is lost."""
        self._limiter.give_back(self)
