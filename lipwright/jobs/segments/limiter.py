"""Limits the segments and jobs in flight by the number of Studio replicas.

Serve scales Studio by the segments that wait for it, so a fixed limit would keep a cluster at its current size. Jobs
may have as many segments in flight as the current Studios can take, or a few each if that is more. That is slightly
more than they can render, so that Serve sees a backlog and adds replicas where it can, and little enough that the first
segment of a new job does not wait behind all of a long one.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from lipwright.config import PipelineConfig
from lipwright.jobs.model.fair_share import FairShare


@dataclass(eq=False)
class _Waiting:
    """A segment that waits; `granted` is resolved when it may be in flight."""

    job_id: str
    owner: str | None
    granted: asyncio.Future[None]


class SegmentLimiter:
    """Counts the segments in flight of all jobs; lives in the event loop of the Director.

    `weight_of` returns the weight of an owner, by which owners share the segments.
    """

    def __init__(self, config: PipelineConfig, weight_of: Callable[[str | None], int] = lambda owner: 1) -> None:
        self._render, self._jobs = config.render, config.jobs
        self._weight_of = weight_of
        self._num_studios = 0
        self.num_in_flight: Counter[str] = Counter()  # by job id
        self.num_planned: Counter[str] = Counter()  # by job id: neither in flight nor finished
        self._num_granted: Counter[str] = Counter()  # by job id: in flight or ended
        self._share: FairShare[str | None] = FairShare()
        self._waiting: list[_Waiting] = []
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

    async def acquire(self, job_id: str, owner: str | None = None) -> None:
        """Wait until the job may have one more segment in flight.

        The first `segment_window` segments of a job do not wait for others. Then owners share the segments by their
        weights, and among the jobs of an owner the one with the fewest is served first.
        """
        waiting = _Waiting(job_id, owner, asyncio.get_running_loop().create_future())
        self._waiting.append(waiting)
        self._grant()
        try:
            await waiting.granted
        except asyncio.CancelledError:
            if waiting.granted.done() and not waiting.granted.cancelled():
                self.release(job_id)
            elif waiting in self._waiting:
                self._waiting.remove(waiting)
            raise

    def release(self, job_id: str) -> None:
        """Note that a segment has ended."""
        self.num_in_flight[job_id] -= 1
        self.num_in_flight += Counter()  # removes jobs without segments
        self._grant()

    def release_all(self, job_id: str) -> None:
        """Note that no segment of the job is planned or in flight, also none that was cancelled before it began."""
        del self.num_in_flight[job_id], self.num_planned[job_id], self._num_granted[job_id]
        self._grant()

    async def drain(self, max_s: float) -> bool:
        """Grant no further segments; return whether those in flight ended within `max_s` seconds."""
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
            waiting = min(self._waiting, key=self._rank)
            if not self._is_new(waiting) and self.num_in_flight.total() >= self._max_in_flight:
                return
            owners = {each.owner for each in self._waiting}
            self._waiting.remove(waiting)
            if not waiting.granted.done():
                self._share.serve(waiting.owner, 1.0, self._weight_of(waiting.owner), owners)
                self._num_granted[waiting.job_id] += 1
                self.num_in_flight[waiting.job_id] += 1
                waiting.granted.set_result(None)

    def _rank(self, waiting: _Waiting) -> tuple[bool, float, int]:
        start = self._share.start_of(waiting.owner)
        return not self._is_new(waiting), start, self.num_in_flight[waiting.job_id]

    def _is_new(self, waiting: _Waiting) -> bool:
        return self._num_granted[waiting.job_id] < self._render.segment_window

    @property
    def _max_in_flight(self) -> int:
        wanted = self.num_in_flight + Counter(each.job_id for each in self._waiting)
        num_own = sum(min(num, self._render.segment_window) for num in wanted.values())
        return max(num_own, int(self._render.segments_per_studio * self._num_studios))
