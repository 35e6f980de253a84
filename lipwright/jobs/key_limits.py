"""The limits and weights of API keys."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final

from lipwright.errors import KeyLimitError, LipwrightError
from lipwright.jobs.model.base import utc_now
from lipwright.jobs.model.record import JobStatus
from lipwright.jobs.usage import StoredBytes
from lipwright.storage.job_table import JobTable
from lipwright.storage.key_ring import ApiKey, KeyLimits, KeyRing

logger = logging.getLogger(__name__)

_RETRY_AFTER_S: Final = 60.0
"""After a refusal that holds until something of the caller ends."""
_UNLIMITED: Final = KeyLimits()


class KeyPolicies:
    """Returns the weights and limits of API keys. Blocks while a database does not answer."""

    def __init__(self, keys: KeyRing) -> None:
        self._keys = keys
        self._weights: dict[str | None, int] = {}

    def weight_of(self, owner: str | None) -> int:
        """Return the weight of an owner; 1 for a key that was revoked."""
        key = self._find(owner)
        self._weights[owner] = weight = 1 if key is None else key.weight
        return weight

    def last_weight_of(self, owner: str | None) -> int:
        """Return what `weight_of` returned last, without blocking."""
        return self._weights.get(owner, 1)

    def limits_of(self, owner: str | None) -> KeyLimits:
        """Return the limits of an owner."""
        return _UNLIMITED if (key := self._find(owner)) is None else key.limits

    def _find(self, owner: str | None) -> ApiKey | None:
        try:
            return self._keys.current(owner)
        except LipwrightError as error:  # another process has authenticated the caller
            logger.warning("the limits and the weight of API key %s cannot be read: %s", owner, error)
            return None


class LimitChecks:
    """Refuses what would pass a limit of its API key. Methods block on the job table.

    Args:
        limits_of: Returns the limits of an owner.
        table: The job table.
        stored: The stored bytes of owners.
        now: The wall clock.
    """

    def __init__(
        self,
        limits_of: Callable[[str | None], KeyLimits],
        table: JobTable,
        stored: StoredBytes,
        now: Callable[[], datetime] = utc_now,
    ) -> None:
        self._limits_of, self._table, self._stored, self._now = limits_of, table, stored, now

    def measure(self, owner: str | None) -> None:
        """Measure the files other than those of jobs if `check_bytes` needs that. Blocks on the file storage."""
        if self._limits_of(owner).stored_bytes is not None:
            self._stored.refresh()

    def check_job(self, owner: str, num_arriving: int) -> None:
        """Refuse a job; `num_arriving` jobs of the owner have been admitted and are being received.

        Raises:
            KeyLimitError: A limit is reached.
        """
        limits, now = self._limits_of(owner), self._now()
        if limits == _UNLIMITED:
            return
        self.check_concurrent_jobs(owner, num_arriving)
        today, month = now.replace(hour=0, minute=0, second=0, microsecond=0), now.date().replace(day=1)
        num_today = self._table.usage.total(owner, today.date()).jobs_submitted + num_arriving
        tomorrow_s = (today + timedelta(days=1) - now).total_seconds()
        _check("jobs_per_day", limits.jobs_per_day, num_today, "jobs submitted today (UTC)", tomorrow_s)
        if limits.video_seconds_per_month is not None:
            rendered = self._table.usage.total(owner, month).video_seconds
            own = (job for job in self._table.unfinished_jobs() if job.owner == owner)
            expected = sum(job.result_seconds * (1 - job.progress) for job in own)
            next_month = (today.replace(day=1) + timedelta(days=32)).replace(day=1)
            what, wait_s = "seconds of video rendered this month or expected", (next_month - now).total_seconds()
            _check("video_seconds_per_month", limits.video_seconds_per_month, round(rendered + expected), what, wait_s)

    def check_concurrent_jobs(self, owner: str, num_arriving: int) -> None:
        """Refuse one more waiting or running job, see `check_job`.

        Raises:
            KeyLimitError: The limit is reached.
        """
        if (limit := self._limits_of(owner).concurrent_jobs) is not None:
            own = (job for job in self._table.unfinished_jobs() if job.owner == owner)
            num_active = sum(job.status is not JobStatus.REVIEW for job in own) + num_arriving
            _check("concurrent_jobs", limit, num_active, "waiting or running jobs")

    def check_bytes(self, owner: str, num_bytes: int) -> None:
        """Refuse bodies of which `num_bytes`, all together, would be stored.

        Raises:
            KeyLimitError: That is more than the owner may store.
        """
        if (limit := self._limits_of(owner).stored_bytes) is None:
            return
        expected = sum(job.disk_bytes for job in self._table.unfinished_jobs() if job.owner == owner)
        if (total := self._stored.of(owner) + expected + num_bytes) > limit:
            found = f"with this upload and the results of unfinished jobs, up to {total} bytes would be stored"
            raise _refusal("stored_bytes", limit, found)

    def count_stored(self, owner: str | None, num_bytes: int) -> None:
        """Count new files of an owner, other than those of jobs."""
        self._stored.add(owner, num_bytes)

    def check_live(self, owner: str | None) -> None:
        """Refuse a live session.

        Raises:
            KeyLimitError: The limit is reached.
        """
        if owner is not None and (limit := self._limits_of(owner).live_sessions) is not None:
            num = self._table.usage.num_live_sessions(owner, self._now())
            _check("live_sessions", limit, num, "live sessions")


def _check(name: str, limit: int | None, num: int, what: str, retry_after_s: float = _RETRY_AFTER_S) -> None:
    """Refuse one more if `num` have reached the limit."""
    if limit is not None and num >= limit:
        raise _refusal(name, limit, f"{what}: {num}", retry_after_s)


def _refusal(name: str, limit: int, found: str, retry_after_s: float = _RETRY_AFTER_S) -> KeyLimitError:
    message = f"The limit {name} of this API key is {limit}; {found}. Retry in {retry_after_s:.0f} s."
    return KeyLimitError(message, retry_after_s)
