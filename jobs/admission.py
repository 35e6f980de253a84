"""Admission: who gets in, decided before a body is read, and nowhere later.

A place is kept for each body that is on its way, so that what was let in finds room when it has arrived.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from config import PipelineConfig
from errors import CapacityError, InProgressError, LipwrightError, StorageFullError
from jobs.forecast import Forecast, forecast, promised_bytes
from storage.local.file_store import FileStore
from storage.records import (
    Admission,
    AdmitRequest,
    AvatarRecord,
    AvatarStatus,
    JobRecord,
    JobStatus,
    new_id,
)
from storage.sqlite.job_table import JobTable

_MIN_BYTES_PER_SECOND = 64 * 1024  # a slower body keeps its place from others
_MIN_BODY_S = 60.0
_PROBE_S = 120.0  # a body that is here is opened, probed and stored in this time
_FORECAST_JOBS = 20
_UNKNOWN_SHARE = 4  # a body of unknown length gets this part of what is free, so that others still find room
_LEAST_GRANT_BYTES = 1024**2
_MAX_RETRY_AFTER_S = 3600.0


@dataclass(frozen=True)
class _Kept:
    """A place that is kept for one body."""

    owner: str | None
    num_bytes: int
    idempotency_key: str | None
    until: float


@dataclass(frozen=True)
class QueueState:
    """What fills the queue now.

    Attributes:
        num_jobs: Waiting jobs.
        num_analysing: Avatars that are analysed for nobody's job yet.
        num_arriving: Bodies on their way.
        num_bytes: Uploads of waiting jobs, and what the bodies on their way may bring.
        num_running: Running jobs.
    """

    num_jobs: int
    num_analysing: int
    num_arriving: int
    num_bytes: int
    num_running: int


class AdmissionDesk:
    """Keeps places; lives in the Director. A place that is not used up in time is free again."""

    def __init__(
        self, config: PipelineConfig, table: JobTable, files: FileStore, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._limits = config.jobs
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
                return Admission(id=new_id(), job=job)
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
            return self._keep(request, place_id)
        except LipwrightError:
            if kept is not None:
                self._kept[place_id] = kept
            raise

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

    def state(self) -> QueueState:
        """What fills the queue now."""
        self._drop_late()
        queued = self._table.queued_jobs()
        return QueueState(
            num_jobs=len(queued),
            num_analysing=len(self._analysing()),
            num_arriving=len(self._kept),
            num_bytes=sum(map(_upload_bytes, queued)) + sum(kept.num_bytes for kept in self._kept.values()),
            num_running=self._table.count_jobs(JobStatus.RUNNING),
        )

    def forecast(self) -> Forecast:
        """How long a job that comes now would wait."""
        finished = self._table.last_succeeded(_FORECAST_JOBS)
        return forecast(self._table.unfinished_jobs(), finished, self._limits.max_running_jobs)

    def _keep(self, request: AdmitRequest, place_id: str) -> Admission:
        num_bytes = self._room_for(request)
        timeout_s = _MIN_BODY_S + num_bytes / _MIN_BYTES_PER_SECOND
        until = self._clock() + timeout_s + _PROBE_S
        self._kept[place_id] = _Kept(request.owner, num_bytes, request.idempotency_key, until)
        return Admission(id=place_id, max_bytes=num_bytes, timeout_s=timeout_s)

    def _free_disk(self) -> int:
        """Bytes of the disk that are neither used, nor promised to unfinished jobs, nor kept free on purpose."""
        promised = promised_bytes(self._table.unfinished_jobs())
        arriving = sum(kept.num_bytes for kept in self._kept.values())
        return self._files.free_bytes() - promised - arriving - self._limits.min_free_bytes

    def _room_for(self, request: AdmitRequest) -> int:
        """Bytes granted to the body: what it declares, or a share of what is free when it does not say."""
        state, limits = self.state(), self._limits
        num_waiting = state.num_jobs + state.num_analysing + state.num_arriving
        num_waiting -= max(0, limits.max_running_jobs - state.num_running)
        if num_waiting >= limits.max_queued_jobs:
            raise self._full(f"expected fewer than {limits.max_queued_jobs} waiting jobs, found {num_waiting}")
        if request.owner is not None:
            self._check_share(request.owner)
        free_bytes = limits.max_queued_bytes - state.num_bytes
        if request.num_bytes is None:
            wanted = min(request.max_bytes, free_bytes // _UNKNOWN_SHARE, self._free_disk() // _UNKNOWN_SHARE)
            wanted = max(wanted, _LEAST_GRANT_BYTES)
        else:
            wanted = max(1, request.num_bytes)
        if wanted > free_bytes:
            found = f"{wanted} more than {state.num_bytes}"
            raise self._full(f"expected uploads of at most {limits.max_queued_bytes} bytes in all, found {found}")
        self.check_disk(wanted)
        return wanted

    def _check_share(self, owner: str) -> None:
        share = max(1, int(self._limits.max_queued_jobs * self._limits.max_queue_share))
        num_own = sum(job.owner == owner for job in self._table.queued_jobs())
        num_own += sum(avatar.owner == owner for avatar in self._analysing())
        num_own += sum(kept.owner == owner for kept in self._kept.values())
        if num_own >= share:
            raise self._full(f"expected fewer than {share} waiting jobs of one API key, found {num_own}")

    def _analysing(self) -> list[AvatarRecord]:
        return [avatar for avatar in self._table.list_avatars() if avatar.status is AvatarStatus.ANALYSING]

    def _full(self, reason: str) -> LipwrightError:
        after_s = min(max(1.0, self.forecast().next_start_s), _MAX_RETRY_AFTER_S)
        return CapacityError(f"The queue is full: {reason}. Come again in {after_s:.0f} s.", after_s)

    def _drop_late(self) -> None:
        now = self._clock()
        for place_id in [place_id for place_id, kept in self._kept.items() if kept.until <= now]:
            del self._kept[place_id]


def _upload_bytes(job: JobRecord) -> int:
    return job.audio.num_bytes + (job.video.num_bytes if job.video is not None else 0)
