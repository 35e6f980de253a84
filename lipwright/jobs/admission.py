"""Admission control: decides who may submit before a body is read, and nowhere later.

Each body on its way has a reservation in the queue. It counts the bytes received and the next few, and grows as they
arrive, so a large announced body costs others nothing. When a growing body no longer fits beside what has really
arrived, it ends with 429.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from pydantic import Field

from lipwright.config import PipelineConfig
from lipwright.errors import CapacityError, InProgressError, LipwrightError, StorageFullError
from lipwright.jobs.forecast import Forecast, forecast, promised_bytes, remaining_bytes
from lipwright.jobs.key_limits import LimitChecks
from lipwright.jobs.model.base import Frozen, new_id
from lipwright.jobs.model.record import JobRecord, JobStatus
from lipwright.jobs.segments.limiter import SegmentLimiter
from lipwright.storage.file_store import FileStore
from lipwright.storage.job_table import JobTable

_MIN_BYTES_PER_SECOND = 64 * 1024  # a slower body blocks others
_MIN_BODY_S = 60.0
_QUIET_S = 240.0  # longest gap between two `extend` calls: an input by URL with redirects
_PROBE_S = 120.0  # a received body is opened, probed and stored within this time
_GRANT_BYTES = 32 * 1024**2  # reserved beyond the bytes received
_FORECAST_JOBS = 20
_UNKNOWN_SHARE = 4  # a body of unknown length gets one part in so many of what is free
_LEAST_GRANT_BYTES = 1024**2
_MAX_RETRY_AFTER_S = 3600.0


class AdmitRequest(Frozen):
    """What is known of a job or an avatar before its body is read."""

    owner: str | None = None
    num_bytes: int | None = Field(None, description="Bytes of the body; None when the client does not say.")
    max_bytes: int = Field(description="Bytes that the body may have at most.")
    idempotency_key: str | None = None
    is_job: bool = Field(False, description="Whether it becomes a job, so that the limits of jobs apply.")


class Admission(Frozen):
    """A reservation for one body, or the job that its idempotency key already made."""

    id: str = Field(description="Names the reservation: `submit` uses it up, `release` cancels it.")
    max_bytes: int = Field(0, description="Bytes that the body may have.")
    timeout_s: float = Field(0.0, description="Seconds within which the body must arrive.")
    granted_bytes: int = Field(0, description="Bytes reserved until it asks for more with `extend`.")
    job: JobRecord | None = Field(
        None, description="The job that this key already made; nothing is reserved, and the body is only compared."
    )


@dataclass(frozen=True)
class _Reservation:
    """A reservation in the queue for one body."""

    owner: str | None
    max_bytes: int  # size that it may reach
    num_here: int
    num_bytes: int  # reserved bytes
    idempotency_key: str | None
    is_job: bool
    since: float
    until: float


@dataclass(frozen=True)
class QueueState:
    """What fills the queue now.

    Attributes:
        num_jobs: Waiting jobs.
        num_analysing: Avatars under analysis that callers created themselves.
        num_arriving: Bodies being received.
        num_bytes: Uploads of waiting jobs, and the bytes reserved for bodies on their way.
        num_running: Running jobs.
    """

    num_jobs: int
    num_analysing: int
    num_arriving: int
    num_bytes: int
    num_running: int


class AdmissionController:
    """Reserves space in the queue for bodies; lives in the Director. A reservation that is not used in time expires."""

    def __init__(
        self,
        config: PipelineConfig,
        table: JobTable,
        files: FileStore,
        clock: Callable[[], float] = time.monotonic,
        limiter: SegmentLimiter | None = None,
        checks: LimitChecks | None = None,
    ) -> None:
        """Start without reservations; by default no Studio runs (`limiter`), and no key has limits (`checks`)."""
        self._limiter = limiter or SegmentLimiter(config)
        self._checks = checks
        self._limits = config.jobs
        self._media = config.limits
        self._table = table
        self._files = files
        self._clock = clock
        self._reservations: dict[str, _Reservation] = {}

    def admit(self, request: AdmitRequest) -> Admission:
        """Reserve space for one body, or return the job that its idempotency key already made.

        Raises:
            CapacityError: The queue, or the owner's share of it, is full; carries `retry_after_s`.
            KeyLimitError: A limit of the API key is reached.
            StorageFullError: The disk would not hold the body.
            InProgressError: Another body with this idempotency key is being received.
        """
        self._drop_expired()
        if request.idempotency_key is not None:
            if (job := self._table.find_job(request.owner, request.idempotency_key)) is not None:
                return _comparison_admission(request, job)
            if any(
                (k.owner, k.idempotency_key) == (request.owner, request.idempotency_key)
                for k in self._reservations.values()
            ):
                raise InProgressError("Another request with this Idempotency-Key is being received.")
        if self._checks is not None and request.owner is not None and request.is_job:
            self._checks.check_job(request.owner, self._num_arriving_jobs(request.owner))
        return self._reserve(request, new_id())

    def check_approval(self, job: JobRecord) -> None:
        """Raise unless a job in review can join the queue.

        Raises:
            CapacityError: The queue, or the owner's share of it, is full; carries `retry_after_s`.
            KeyLimitError: The API key has as many waiting or running jobs as it may have.
            StorageFullError: The disk would not hold the result.
        """
        if self._checks is not None and job.owner is not None:
            self._checks.check_concurrent_jobs(job.owner, self._num_arriving_jobs(job.owner))
        self._check_queue(self.state(), job.owner)
        self.check_disk(remaining_bytes(job))

    def grow_reservation(self, request: AdmitRequest, admission_id: str) -> Admission:
        """Give a reservation more bytes and time, for a body that names files to be fetched.

        Raises:
            CapacityError: The queue does not hold more bytes.
            StorageFullError: The disk would not hold them.
        """
        reservation = self._reservations.pop(admission_id, None)
        try:
            if reservation is None:
                return self._reserve(request, admission_id)
            kept = {"is_job": reservation.is_job, "idempotency_key": reservation.idempotency_key}
            request = request.model_copy(update=kept)
            return self._reserve(request, admission_id, reservation.num_here)
        except LipwrightError:
            if reservation is not None:
                self._reservations[admission_id] = reservation
            raise

    def extend(self, admission_id: str, num_here: int) -> int:
        """Reserve the next bytes of a body of which `num_here` have arrived; returns how many it may have by then.

        Raises:
            CapacityError: The queue does not hold more bytes.
            StorageFullError: The disk would not hold them.
        """
        reservation = self._reservations.pop(admission_id, None)
        if reservation is None:
            return num_here + _GRANT_BYTES  # reserved at a Director that is gone; `submit` checks again
        try:
            num_bytes = max(reservation.num_bytes, min(reservation.max_bytes, num_here + _GRANT_BYTES))
            if num_bytes > reservation.num_bytes:
                self._check_bytes(num_bytes, reservation.owner)
                self._check_stored_bytes(num_here, reservation.owner)
                self.check_disk(num_bytes - num_here)
            until = self._clock() + _QUIET_S + _PROBE_S
            reservation = replace(reservation, num_here=num_here, num_bytes=num_bytes, until=until)
        finally:
            self._reservations[admission_id] = reservation
        return num_bytes

    def count_stored(self, owner: str | None, num_bytes: int) -> None:
        """Count new files of an owner, other than those of jobs, for the limit of its API key."""
        if self._checks is not None:
            self._checks.count_stored(owner, num_bytes)

    def release(self, admission_id: str | None) -> None:
        """Cancel a reservation. Does nothing when it is gone already."""
        if admission_id is not None:
            self._reservations.pop(admission_id, None)

    def holds(self, admission_id: str | None) -> bool:
        """Return whether this reservation still exists; none survives a restart of the Director."""
        self._drop_expired()
        return admission_id in self._reservations

    def check_disk(self, needed_bytes: int) -> None:
        """Raise StorageFullError for bytes that the disk would not hold beside all unfinished jobs."""
        free = self._free_disk()
        if needed_bytes > free:
            raise StorageFullError(
                f"Not enough disk space: needs {needed_bytes} bytes beside what other jobs will need, "
                f"{max(0, free)} are available."
            )

    @property
    def max_running_jobs(self) -> int:
        """How many jobs may run now."""
        return self._limiter.max_running_jobs

    def state(self) -> QueueState:
        """Return what fills the queue now."""
        self._drop_expired()
        queued = self._table.queued_jobs()
        return QueueState(
            num_jobs=len(queued),
            num_analysing=len(self._table.analysing_avatars()),
            num_arriving=len(self._reservations),
            num_bytes=sum(job.upload_bytes for job in queued)
            + sum(reservation.num_bytes for reservation in self._reservations.values()),
            num_running=self._table.count_jobs(JobStatus.RUNNING),
        )

    def forecast(self) -> Forecast:
        """Return how long a job submitted now would wait."""
        finished = self._table.last_succeeded(_FORECAST_JOBS)
        return forecast(self._table.unfinished_jobs(), finished, self.max_running_jobs)

    def _reserve(self, request: AdmitRequest, admission_id: str, num_here: int = 0) -> Admission:
        max_bytes = self._granted_bytes(request)
        now, granted = self._clock(), num_here + min(max_bytes, _GRANT_BYTES)
        until = now + _QUIET_S + _PROBE_S
        self._reservations[admission_id] = _Reservation(
            request.owner,
            num_here + max_bytes,
            num_here,
            granted,
            request.idempotency_key,
            request.is_job,
            now,
            until,
        )
        timeout_s = _MIN_BODY_S + max_bytes / _MIN_BYTES_PER_SECOND
        return Admission(id=admission_id, max_bytes=max_bytes, timeout_s=timeout_s, granted_bytes=granted)

    def _free_disk(self) -> int:
        """Free bytes less what unfinished jobs and bodies will fill and what must stay free; unlimited for a bucket."""
        promised = promised_bytes(self._table.unfinished_jobs())
        arriving = sum(reservation.num_bytes - reservation.num_here for reservation in self._reservations.values())
        free_bytes = self._files.stored.free_bytes()
        return sys.maxsize if free_bytes is None else free_bytes - promised - arriving - self._limits.min_free_bytes

    def _granted_bytes(self, request: AdmitRequest) -> int:
        """The bytes granted to a body: its declared size, or a share of the free space if it declares none."""
        state = self.state()
        self._check_queue(state, request.owner)
        free_bytes = self._limits.max_queued_bytes - state.num_bytes
        if request.num_bytes is None:
            wanted = min(request.max_bytes, free_bytes // _UNKNOWN_SHARE, self._free_disk() // _UNKNOWN_SHARE)
            wanted = max(wanted, _LEAST_GRANT_BYTES)
        else:
            wanted = max(1, request.num_bytes)
        self._check_bytes(wanted, request.owner)
        self._check_stored_bytes(request.num_bytes or 1, request.owner)
        self.check_disk(wanted)
        return wanted

    def _check_queue(self, state: QueueState, owner: str | None) -> None:
        """Refuse one more job if the queue, or the owner's share of it, is full."""
        num_waiting = state.num_jobs + state.num_analysing + state.num_arriving
        num_waiting -= max(0, self.max_running_jobs - state.num_running)
        limit = self._limits.max_queued_jobs
        if num_waiting >= limit:
            raise self._queue_full(f"{_are_waiting(num_waiting)}; the limit is {limit}", is_of_jobs=True)
        if owner is not None:
            self._check_job_share(owner)

    def _check_bytes(self, wanted: int, owner: str | None) -> None:
        """Refuse bytes that do not fit into the queue, or into the owner's share of it."""
        max_bytes, used = self._limits.max_queued_bytes, self.state().num_bytes
        if wanted > max_bytes - used:
            raise self._queue_full(f"this upload needs {wanted} bytes, and {used} of {max_bytes} bytes are taken")
        share = int(max_bytes * self._limits.max_queue_share_per_key)
        if owner is not None and wanted > share - (own := self._bytes_of(owner)):
            raise self._queue_full(
                f"this upload needs {wanted} bytes, and this API key has taken {own} of its {share} bytes", owner
            )

    def _check_stored_bytes(self, num_bytes: int, owner: str | None) -> None:
        """Refuse a body that the limit of its API key does not allow to store beside those being received."""
        if self._checks is not None and owner is not None:
            others = sum(each.num_bytes for each in self._reservations_of(owner))
            self._checks.check_bytes(owner, others + num_bytes)

    def _reservations_of(self, owner: str) -> list[_Reservation]:
        return [each for each in self._reservations.values() if each.owner == owner]

    def _num_arriving_jobs(self, owner: str) -> int:
        return sum(each.is_job for each in self._reservations_of(owner))

    def _bytes_of(self, owner: str) -> int:
        jobs = sum(job.upload_bytes for job in self._table.queued_jobs() if job.owner == owner)
        return jobs + sum(reservation.num_bytes for reservation in self._reservations_of(owner))

    def _check_job_share(self, owner: str) -> None:
        share = max(1, int(self._limits.max_queued_jobs * self._limits.max_queue_share_per_key))
        num_own = sum(job.owner == owner for job in self._table.queued_jobs())
        num_own += sum(avatar.owner == owner for avatar in self._table.analysing_avatars())
        num_own += len(self._reservations_of(owner))
        if num_own >= share:
            raise self._queue_full(f"{_are_waiting(num_own, ' of this key')}; the limit is {share}", owner)

    def _queue_full(self, reason: str, owner: str | None = None, is_of_jobs: bool = False) -> LipwrightError:
        """The refusal, with the time until the first job or body leaves the queue, or the owner's share of it.

        A queue that is full of jobs frees a slot when a running job ends, whether or not another one waits.
        """
        after_s = [
            self._time_left(reservation)
            for reservation in self._reservations.values()
            if owner in (None, reservation.owner)
        ]
        next_start_s = self.forecast().next_start_s
        are_jobs_waiting = any(owner in (None, job.owner) for job in self._table.queued_jobs())
        are_jobs_waiting = are_jobs_waiting or bool(self._table.analysing_avatars())
        if are_jobs_waiting or (is_of_jobs and next_start_s > 0):
            after_s.append(next_start_s)
        soonest_s = min(max(1.0, min(after_s, default=0.0)), _MAX_RETRY_AFTER_S)
        return CapacityError(f"The queue is full: {reason}. Retry in {soonest_s:.0f} s.", soonest_s)

    def _time_left(self, reservation: _Reservation) -> float:
        """Seconds until a body has arrived at its rate so far; a body that is too slow is cut off after its pause."""
        rate = reservation.num_here / max(self._clock() - reservation.since, 1.0)
        if rate < self._media.min_upload_bytes_per_s:
            return self._media.max_upload_pause_s
        return (reservation.max_bytes - reservation.num_here) / rate

    def _drop_expired(self) -> None:
        now = self._clock()
        for admission_id in [
            admission_id for admission_id, reservation in self._reservations.items() if reservation.until <= now
        ]:
            del self._reservations[admission_id]


def _comparison_admission(request: AdmitRequest, job: JobRecord) -> Admission:
    """The admission of a body that is only compared with that of its job: read, but not stored."""
    max_bytes = request.max_bytes if request.num_bytes is None else max(1, request.num_bytes)
    return Admission(
        id=new_id(), job=job, max_bytes=max_bytes, timeout_s=_MIN_BODY_S + max_bytes / _MIN_BYTES_PER_SECOND
    )


def _are_waiting(num_jobs: int, whose: str = "") -> str:
    return f"1 job{whose} is waiting" if num_jobs == 1 else f"{num_jobs} jobs{whose} are waiting"
