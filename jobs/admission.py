"""Admission: who gets in, decided before a body is read, and nowhere later.

A place is kept for each body that is on its way. It counts in the queue with the bytes that are here and the next few,
and grows as they come: what a body announces costs nobody else anything. A body that no longer fits beside what is
really there ends with 429; what has arrived finds room.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from pydantic import Field

from config import PipelineConfig
from errors import CapacityError, InProgressError, LipwrightError, StorageFullError
from jobs.forecast import Forecast, forecast, promised_bytes
from jobs.segment_limiter import SegmentLimiter
from storage.file_store import FileStore
from storage.job_table import JobTable
from storage.records import Frozen, JobRecord, JobStatus, new_id

_MIN_BYTES_PER_SECOND = 64 * 1024  # a slower body keeps its place from others
_MIN_BODY_S = 60.0
_QUIET_S = 240.0  # the longest time between two words of a body that still comes: an input by URL with redirects
_PROBE_S = 120.0  # a body that is here is opened, probed and stored in this time
_GRANT_BYTES = 32 * 1024**2  # kept beyond what is here
_FORECAST_JOBS = 20
_UNKNOWN_SHARE = 4  # a body of unknown length gets this part of what is free, so that others still find room
_LEAST_GRANT_BYTES = 1024**2
_MAX_RETRY_AFTER_S = 3600.0


class AdmitRequest(Frozen):
    """What is known of a job or an avatar before its body is read."""

    owner: str | None = None
    num_bytes: int | None = Field(None, description="Bytes of the body; None when the client does not say.")
    max_bytes: int = Field(description="Bytes that the body may have at most.")
    idempotency_key: str | None = None


class Admission(Frozen):
    """A place kept for one body, or the job that its idempotency key names already."""

    id: str = Field(description="Names the kept place; `submit` uses it up, `release` gives it back.")
    max_bytes: int = Field(0, description="Bytes that the body may have.")
    timeout_s: float = Field(0.0, description="Wall clock in which the body has to be here.")
    granted_bytes: int = Field(0, description="Bytes that are kept for it until it asks for more with `extend`.")
    job: JobRecord | None = Field(
        None, description="The job that this key made before; nothing is kept then, and the body is only compared."
    )


@dataclass(frozen=True)
class _Kept:
    """A place that is kept for one body."""

    owner: str | None
    max_bytes: int  # what it may become
    num_here: int
    num_bytes: int  # what is kept for it
    idempotency_key: str | None
    since: float
    until: float


@dataclass(frozen=True)
class QueueState:
    """What fills the queue now.

    Attributes:
        num_jobs: Waiting jobs.
        num_analysing: Avatars that are analysed for nobody's job yet.
        num_arriving: Bodies on their way.
        num_bytes: Uploads of waiting jobs, and what is kept for bodies on their way.
        num_running: Running jobs.
    """

    num_jobs: int
    num_analysing: int
    num_arriving: int
    num_bytes: int
    num_running: int


class AdmissionController:
    """Keeps places; lives in the Director. A place that is not used up in time is free again."""

    def __init__(
        self,
        config: PipelineConfig,
        table: JobTable,
        files: FileStore,
        clock: Callable[[], float] = time.monotonic,
        limiter: SegmentLimiter | None = None,
    ) -> None:
        """Start without reservations; the default `limiter` assumes that no Studio runs."""
        self._limiter = limiter or SegmentLimiter(config)
        self._limits = config.jobs
        self._media = config.limits
        self._table = table
        self._files = files
        self._clock = clock
        self._kept: dict[str, _Kept] = {}

    def admit(self, request: AdmitRequest) -> Admission:
        """Keep a place for one body, or find the job that its idempotency key made before.

        Raises:
            CapacityError: The queue is full, or the owner's share of it; says when to come again.
            StorageFullError: The disk would not hold the body.
            InProgressError: Another body with this idempotency key is on its way.
        """
        self._drop_late()
        if request.idempotency_key is not None:
            if (job := self._table.find_job(request.owner, request.idempotency_key)) is not None:
                return _comparison(request, job)
            if any(
                (k.owner, k.idempotency_key) == (request.owner, request.idempotency_key) for k in self._kept.values()
            ):
                raise InProgressError("A request with this Idempotency-Key is being received at the moment.")
        return self._keep(request, new_id())

    def widen(self, request: AdmitRequest, place_id: str) -> Admission:
        """Grant a place more bytes and time: its body names files that are still to be fetched.

        Raises:
            CapacityError: There is no room for more bytes.
            StorageFullError: The disk would not hold them.
        """
        kept = self._kept.pop(place_id, None)
        try:
            return self._keep(request, place_id, kept.num_here if kept is not None else 0)
        except LipwrightError:
            if kept is not None:
                self._kept[place_id] = kept
            raise

    def extend(self, place_id: str, num_here: int) -> int:
        """Keep room for the next bytes of a body, of which `num_here` have come; returns how many it may have by then.

        Raises:
            CapacityError: There is no room for more bytes.
            StorageFullError: The disk would not hold them.
        """
        kept = self._kept.pop(place_id, None)
        if kept is None:
            return num_here + _GRANT_BYTES  # kept by a Director that is gone; `submit` looks for room once more
        try:
            num_bytes = max(kept.num_bytes, min(kept.max_bytes, num_here + _GRANT_BYTES))
            if num_bytes > kept.num_bytes:
                self._check_room(num_bytes, kept.owner)
                self.check_disk(num_bytes - num_here)
            until = self._clock() + _QUIET_S + _PROBE_S
            kept = replace(kept, num_here=num_here, num_bytes=num_bytes, until=until)
        finally:
            self._kept[place_id] = kept
        return num_bytes

    def release(self, place_id: str | None) -> None:
        """Give a place back. Harmless when it is gone already."""
        if place_id is not None:
            self._kept.pop(place_id, None)

    def holds(self, place_id: str | None) -> bool:
        """Whether this place is still kept; after a restart of the Director none is."""
        self._drop_late()
        return place_id in self._kept

    def check_disk(self, needed_bytes: int) -> None:
        """Refuse what the disk would not hold beside all unfinished jobs.

        Raises:
            StorageFullError: It would not.
        """
        free = self._free_disk()
        if needed_bytes > free:
            raise StorageFullError(
                f"The disk would not hold it: expected {needed_bytes} bytes beside what is promised to other jobs, "
                f"found {max(0, free)}."
            )

    @property
    def max_running_jobs(self) -> int:
        """Jobs that may be at work now."""
        return self._limiter.max_running_jobs

    def state(self) -> QueueState:
        """What fills the queue now."""
        self._drop_late()
        queued = self._table.queued_jobs()
        return QueueState(
            num_jobs=len(queued),
            num_analysing=len(self._table.analysing_avatars()),
            num_arriving=len(self._kept),
            num_bytes=sum(map(_upload_bytes, queued)) + sum(kept.num_bytes for kept in self._kept.values()),
            num_running=self._table.count_jobs(JobStatus.RUNNING),
        )

    def forecast(self) -> Forecast:
        """How long a job that comes now would wait."""
        finished = self._table.last_succeeded(_FORECAST_JOBS)
        return forecast(self._table.unfinished_jobs(), finished, self.max_running_jobs)

    def _keep(self, request: AdmitRequest, place_id: str, num_here: int = 0) -> Admission:
        max_bytes = self._room_for(request)
        now, granted = self._clock(), num_here + min(max_bytes, _GRANT_BYTES)
        until = now + _QUIET_S + _PROBE_S
        self._kept[place_id] = _Kept(
            request.owner, num_here + max_bytes, num_here, granted, request.idempotency_key, now, until
        )
        timeout_s = _MIN_BODY_S + max_bytes / _MIN_BYTES_PER_SECOND
        return Admission(id=place_id, max_bytes=max_bytes, timeout_s=timeout_s, granted_bytes=granted)

    def _free_disk(self) -> int:
        """Bytes that are neither used, nor promised to unfinished jobs, nor kept free; a bucket has no end."""
        promised = promised_bytes(self._table.unfinished_jobs())
        arriving = sum(kept.num_bytes - kept.num_here for kept in self._kept.values())
        free_bytes = self._files.stored.free_bytes()
        return sys.maxsize if free_bytes is None else free_bytes - promised - arriving - self._limits.min_free_bytes

    def _room_for(self, request: AdmitRequest) -> int:
        """Bytes that the body may have: what it declares, or a share of what is free when it does not say."""
        state, limits = self.state(), self._limits
        num_waiting = state.num_jobs + state.num_analysing + state.num_arriving
        num_waiting -= max(0, self.max_running_jobs - state.num_running)
        if num_waiting >= limits.max_queued_jobs:
            raise self._full(
                f"expected fewer than {limits.max_queued_jobs} waiting jobs, found {num_waiting}", is_of_jobs=True
            )
        if request.owner is not None:
            self._check_share(request.owner)
        free_bytes = limits.max_queued_bytes - state.num_bytes
        if request.num_bytes is None:
            wanted = min(request.max_bytes, free_bytes // _UNKNOWN_SHARE, self._free_disk() // _UNKNOWN_SHARE)
            wanted = max(wanted, _LEAST_GRANT_BYTES)
        else:
            wanted = max(1, request.num_bytes)
        self._check_room(wanted, request.owner)
        self.check_disk(wanted)
        return wanted

    def _check_room(self, wanted: int, owner: str | None) -> None:
        """Refuse bytes that the queue, or the owner's share of it, does not hold."""
        max_bytes, used = self._limits.max_queued_bytes, self.state().num_bytes
        if wanted > max_bytes - used:
            raise self._full(f"expected uploads of at most {max_bytes} bytes in all, found {wanted} more than {used}")
        share = int(max_bytes * self._limits.max_queue_share_per_key)
        if owner is not None and wanted > share - (own := self._bytes_of(owner)):
            raise self._full(f"expected at most {share} bytes of one API key, found {wanted} more than {own}", owner)

    def _bytes_of(self, owner: str) -> int:
        jobs = sum(_upload_bytes(job) for job in self._table.queued_jobs() if job.owner == owner)
        return jobs + sum(kept.num_bytes for kept in self._kept.values() if kept.owner == owner)

    def _check_share(self, owner: str) -> None:
        share = max(1, int(self._limits.max_queued_jobs * self._limits.max_queue_share_per_key))
        num_own = sum(job.owner == owner for job in self._table.queued_jobs())
        num_own += sum(avatar.owner == owner for avatar in self._table.analysing_avatars())
        num_own += sum(kept.owner == owner for kept in self._kept.values())
        if num_own >= share:
            raise self._full(f"expected fewer than {share} waiting jobs of one API key, found {num_own}", owner)

    def _full(self, reason: str, owner: str | None = None, is_of_jobs: bool = False) -> LipwrightError:
        """The refusal, with the time after which one of those who fill the queue, or the owner's share, will go.

        A queue that is full of jobs has a place more when a running one ends, whether another one waits or not.
        """
        after_s = [self._time_left(kept) for kept in self._kept.values() if owner in (None, kept.owner)]
        next_start_s = self.forecast().next_start_s
        are_jobs_waiting = any(owner in (None, job.owner) for job in self._table.queued_jobs())
        are_jobs_waiting = are_jobs_waiting or bool(self._table.analysing_avatars())
        if are_jobs_waiting or (is_of_jobs and next_start_s > 0):
            after_s.append(next_start_s)
        soonest_s = min(max(1.0, min(after_s, default=0.0)), _MAX_RETRY_AFTER_S)
        return CapacityError(f"The queue is full: {reason}. Come again in {soonest_s:.0f} s.", soonest_s)

    def _time_left(self, kept: _Kept) -> float:
        """Seconds until a body is here at its rate so far; one that is too slow is cut off in the pause it may make."""
        rate = kept.num_here / max(self._clock() - kept.since, 1.0)
        if rate < self._media.min_upload_bytes_per_s:
            return self._media.max_upload_pause_s
        return (kept.max_bytes - kept.num_here) / rate

    def _drop_late(self) -> None:
        now = self._clock()
        for place_id in [place_id for place_id, kept in self._kept.items() if kept.until <= now]:
            del self._kept[place_id]


def _comparison(request: AdmitRequest, job: JobRecord) -> Admission:
    """What a body may be that is only compared with that of its job: it is read and nothing of it is kept."""
    max_bytes = request.max_bytes if request.num_bytes is None else max(1, request.num_bytes)
    return Admission(
        id=new_id(), job=job, max_bytes=max_bytes, timeout_s=_MIN_BODY_S + max_bytes / _MIN_BYTES_PER_SECOND
    )


def _upload_bytes(job: JobRecord) -> int:
    return job.audio.num_bytes + (job.video.num_bytes if job.video is not None else 0)
