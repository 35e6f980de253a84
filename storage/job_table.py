"""The job table: jobs, their segments and webhooks, and avatars.

Only the Director uses it. Every method is one short transaction. It blocks for milliseconds on a local file, and for
seconds on a remote database that does not answer, so coroutines call it through `run_in_thread`. A change is on the
disk when the method returns: an accepted job survives a power cut.
"""

from __future__ import annotations

import asyncio
import contextvars
import json
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from functools import partial
from typing import ParamSpec, TypeVar

from errors import NotFoundError, StateError
from storage.protocols import Database, KeyTakenError, Row
from storage.records import (
    AvatarRecord,
    AvatarStatus,
    CallbackRecord,
    CallbackStatus,
    JobPage,
    JobQuery,
    JobRecord,
    JobStatus,
    SegmentRecord,
    SegmentStatus,
    utc_now,
)
from storage.row_codec import from_row, timestamp, to_row

_NOT_STORED = {"queue_position", "callback"}
_UNFINISHED = (JobStatus.QUEUED.value, JobStatus.RUNNING.value)
# Higher priority first; within one, owners take turns: a job's turn counts its owner's running jobs and those that
# wait before it, and of equal turns that of the owner whose last start is longest ago comes first. So whoever sent a
# hundred jobs delays another's first one by no more than those that run already.
# What it costs follows the jobs that wait and run, not those that have ended, of which there may be thousands.
_QUEUE = """
    WITH waiting AS (
        SELECT number, priority, coalesce(owner, '') AS who FROM jobs WHERE status = 'queued'
    ), running AS MATERIALIZED (
        SELECT coalesce(owner, '') AS who, count(*) AS num FROM jobs WHERE status = 'running' GROUP BY 1
    ), served AS MATERIALIZED (
        SELECT who, (
            SELECT started_at FROM jobs WHERE coalesce(owner, '') = who AND started_at IS NOT NULL
            ORDER BY started_at DESC LIMIT 1
        ) AS last_start
        FROM (SELECT DISTINCT who FROM waiting) AS owners
    ), turns AS (
        SELECT number, priority, coalesce(last_start, '') AS last_start,
            row_number() OVER (PARTITION BY who, priority ORDER BY number) + coalesce(num, 0) AS turn
        FROM waiting LEFT JOIN running USING (who) LEFT JOIN served USING (who)
    ), queue AS (
        SELECT number, row_number() OVER (ORDER BY priority DESC, turn, last_start, number) - 1 AS position FROM turns
    )
"""
_ANY_NUMBER = 2**63 - 1  # the bound of a LIMIT that has none: the two databases have no other word for it in common

P = ParamSpec("P")
T = TypeVar("T")


class JobTable:
    """See the module's text. Safe to call from several threads of one process."""

    def __init__(self, database: Database, on_change: Callable[[str], None] = lambda job_id: None) -> None:
        """Use a database; `on_change` is called with a job's id, in any thread, after each change of its row."""
        self._on_change = on_change
        self._database = database
        self._own_thread = ThreadPoolExecutor(1, "job-table")

    async def run_in_thread(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Do `work`, a method of this table as a rule, in the table's own thread; it is done in the order of the calls.

        What was asked for is done, also if whoever waits for it is cancelled.
        """
        context = contextvars.copy_context()
        call = partial(context.run, work, *args, **kwargs)
        return await asyncio.shield(asyncio.get_running_loop().run_in_executor(self._own_thread, call))

    def close(self) -> None:
        """Close the database; the table cannot be used afterwards."""
        self._own_thread.shutdown()
        self._database.close()

    @property
    def is_shared(self) -> bool:
        """Whether several services may be at it; see `storage.protocols.Database`, also for what follows."""
        return self._database.is_shared

    def try_claim(self, holder: str, lease_s: float, is_successor: bool = False) -> bool:
        """Become the only writer for a while, if nobody is it at the moment."""
        return self._database.try_claim(holder, lease_s, is_successor)

    def renew(self, lease_s: float) -> str | None:
        """Stay the only writer for another while; returns the newer service that asks for its place, if one does."""
        return self._database.renew(lease_s)

    def request_handover(self, successor: str, wait_s: float) -> bool:
        """Ask a writer of an older service to hand over; returns whether there is one."""
        return self._database.request_handover(successor, wait_s)

    def hand_over(self, successor: str, lease_s: float) -> None:
        """Be the writer no longer, in favour of one service."""
        self._database.hand_over(successor, lease_s)

    def release(self) -> None:
        """Be the writer no longer."""
        self._database.release()

    def claim(self) -> int:
        """Become the only writer; see `Database.claim`."""
        return self._database.claim()

    def check_claim(self) -> None:
        """Raise StateError when another process has become the writer."""
        self._database.check_claim()

    # Jobs

    def insert_job(self, job: JobRecord) -> JobRecord:
        """Add a job.

        Raises:
            StateError: its id or idempotency key is taken.
        """
        try:
            with self._database.transaction():
                self._database.insert("jobs", to_row(job, _NOT_STORED))
        except KeyTakenError as error:
            raise StateError(f"Job {job.id} or its idempotency key exists already.") from error
        return self.get_job(job.id)

    def update_job(self, job_id: str, **fields: object) -> JobRecord:
        """Change fields of a job and raise its version; `started_at` and `finished_at` follow a new status.

        A finished job keeps its outcome: the first final status wins, a later update changes nothing and the
        record comes back as it is. So a cancel that meets the last segment cannot produce two endings.

        Raises:
            NotFoundError: there is no such job.
            pydantic.ValidationError: a field does not exist or has a value that it cannot have.
        """
        with self._database.transaction():
            job = self.get_job(job_id)
            if job.status.is_final:
                return job
            changed = {**job.model_dump(), **fields, "version": job.version + 1}
            status = JobStatus(changed["status"])
            if status is JobStatus.RUNNING:
                changed["started_at"] = changed["started_at"] or utc_now()
            if status.is_final:
                changed["finished_at"] = changed["finished_at"] or utc_now()
            self._database.update("jobs", "id", job_id, to_row(JobRecord.model_validate(changed), _NOT_STORED))
            if status.is_final and job.callback_url is not None:
                self.put_callback(CallbackRecord(job_id=job_id, next_at=utc_now()))
        self._on_change(job_id)
        return self.get_job(job_id)

    def get_job(self, job_id: str, owner: str | None = None) -> JobRecord:
        """One job; with `owner`, only if it is that owner's.

        Raises:
            NotFoundError: there is no such job.
        """
        rows = self._database.query("SELECT * FROM jobs WHERE id = ?1 AND (owner = ?2 OR ?2 IS NULL)", job_id, owner)
        if not rows:
            raise NotFoundError(f"There is no job {job_id[:80]!r}.")
        return self._jobs(rows)[0]

    def find_job(self, owner: str | None, idempotency_key: str) -> JobRecord | None:
        """The job that this owner submitted under this key before, if any."""
        rows = self._database.query(
            "SELECT * FROM jobs WHERE coalesce(owner, '') = ?1 AND idempotency_key = ?2", owner or "", idempotency_key
        )
        return self._jobs(rows)[0] if rows else None

    def release_idempotency_key(self, job_id: str) -> None:
        """Take a finished job's idempotency key from it: another job may bear it then.

        Raises:
            NotFoundError: there is no such job.
            StateError: it is not finished, and still answers for its key.
        """
        with self._database.transaction():
            if not (job := self.get_job(job_id)).status.is_final:
                raise StateError(f"Job {job_id} keeps its key: expected it to be finished, found it {job.status}.")
            self._database.update("jobs", "id", job_id, {"idempotency_key": None})

    def list_jobs(self, query: JobQuery) -> JobPage:
        """A page of jobs, the newest first."""
        rows = self._database.query(
            f"""
            SELECT * FROM jobs
            WHERE (status = ?1 OR ?1 IS NULL) AND (owner = ?2 OR ?2 IS NULL) AND (number < ?3 OR ?3 IS NULL)
                AND {self._database.json_contains("metadata", "?4")}
            ORDER BY number DESC LIMIT ?5
            """,
            None if query.status is None else query.status.value,
            query.owner,
            query.after,
            json.dumps(query.metadata),
            query.limit + 1,
        )
        is_last = len(rows) <= query.limit
        rows = rows[: query.limit]
        return JobPage(jobs=self._jobs(rows), next_after=None if is_last else int(rows[-1]["number"]))

    def queued_jobs(self) -> list[JobRecord]:
        """Waiting jobs in the order in which they start."""
        rows = self._database.query(f"{_QUEUE} SELECT jobs.*, position FROM jobs JOIN queue USING (number)")
        positions = {row["id"]: int(row["position"]) for row in rows}
        return self._jobs(sorted(rows, key=lambda row: positions[row["id"]]), positions)

    def unfinished_jobs(self) -> list[JobRecord]:
        """Running and waiting jobs, the oldest first: what a Director that starts has to take up again."""
        return self._jobs(
            self._database.query("SELECT * FROM jobs WHERE status IN (?1, ?2) ORDER BY number", *_UNFINISHED)
        )

    def finished_jobs(self, before: datetime, limit: int) -> list[JobRecord]:
        """Jobs that ended before a time, the first that ended first, at most `limit`; none whose webhook is due."""
        rows = self._database.query(
            "SELECT * FROM jobs WHERE finished_at < ?1 AND id NOT IN (SELECT job_id FROM callbacks WHERE status = ?2) "
            "ORDER BY finished_at LIMIT ?3",
            timestamp(before),
            CallbackStatus.PENDING.value,
            limit,
        )
        return self._jobs(rows)

    def last_succeeded(self, limit: int) -> list[JobRecord]:
        """The jobs that succeeded last, the newest first."""
        rows = self._database.query(
            "SELECT * FROM jobs WHERE finished_at IS NOT NULL AND status = ?1 ORDER BY finished_at DESC LIMIT ?2",
            JobStatus.SUCCEEDED.value,
            limit,
        )
        return self._jobs(rows)

    def count_jobs(self, status: JobStatus) -> int:
        """How many jobs have this status."""
        (row,) = self._database.query("SELECT count(*) AS num FROM jobs WHERE status = ?1", status.value)
        return int(row["num"])

    def delete_job(self, job_id: str) -> None:
        """Forget a job and its segments. Harmless when it is gone already."""
        with self._database.transaction():
            self._database.execute("DELETE FROM jobs WHERE id = ?1", job_id)

    # Segments

    def record_segment(self, segment: SegmentRecord) -> None:
        """Add a segment or replace what is known of it."""
        with self._database.transaction():
            self._database.insert("segments", to_row(segment), ("job_id", "number"))

    def segments(self, job_id: str) -> list[SegmentRecord]:
        """All known segments of a job, in output order."""
        rows = self._database.query("SELECT * FROM segments WHERE job_id = ?1 ORDER BY number", job_id)
        return [from_row(SegmentRecord, row) for row in rows]

    def finished_segments(self, job_id: str) -> list[SegmentRecord]:
        """The segments whose file is there, in output order."""
        return [segment for segment in self.segments(job_id) if segment.status is SegmentStatus.DONE]

    # Webhooks

    def put_callback(self, callback: CallbackRecord) -> None:
        """Add a webhook or replace what is known of it. Harmless when its job is gone."""
        with self._database.transaction():
            if self._database.query("SELECT 1 FROM jobs WHERE id = ?1", callback.job_id):
                self._database.insert("callbacks", to_row(callback), ("job_id",))

    def find_callback(self, job_id: str) -> CallbackRecord | None:
        """The webhook of a finished job, if it has one."""
        rows = self._database.query("SELECT * FROM callbacks WHERE job_id = ?1", job_id)
        return from_row(CallbackRecord, rows[0]) if rows else None

    def pending_callbacks(self, limit: int) -> list[CallbackRecord]:
        """Webhooks that have not arrived yet, the first due first."""
        rows = self._database.query(
            "SELECT * FROM callbacks WHERE status = ?1 ORDER BY next_at LIMIT ?2", CallbackStatus.PENDING.value, limit
        )
        return [from_row(CallbackRecord, row) for row in rows]

    # Avatars

    def put_avatar(self, avatar: AvatarRecord) -> AvatarRecord:
        """Add an avatar, or replace the one of the same key (keeping its id) and raise its version."""
        with self._database.transaction():
            known = self.find_avatar(avatar.key)
            if known is not None:
                avatar = avatar.model_copy(update={"id": known.id, "version": known.version + 1})
            self._database.insert("avatars", to_row(avatar), ("key",))
        return avatar

    def update_avatar(self, key: str, **fields: object) -> AvatarRecord:
        """Change fields of an avatar and raise its version.

        Raises:
            NotFoundError: there is no such avatar.
            pydantic.ValidationError: a field does not exist or has a value that it cannot have.
        """
        with self._database.transaction():
            known = self.find_avatar(key)
            if known is None:
                raise NotFoundError(f"There is no avatar with key {key[:80]!r}.")
            changed = {**known.model_dump(), **fields, "version": known.version + 1}
            avatar = AvatarRecord.model_validate(changed)
            self._database.update("avatars", "key", key, to_row(avatar))
        return avatar

    def find_avatar(self, key: str) -> AvatarRecord | None:
        """The avatar of this content key, if it was ever analysed."""
        rows = self._database.query("SELECT * FROM avatars WHERE key = ?1", key)
        return from_row(AvatarRecord, rows[0]) if rows else None

    def get_avatar(self, avatar_id: str, owner: str | None = None) -> AvatarRecord:
        """One avatar by the id that clients use; with `owner`, only if it is that owner's.

        Raises:
            NotFoundError: there is no such avatar.
        """
        rows = self._database.query(
            "SELECT * FROM avatars WHERE id = ?1 AND (owner = ?2 OR ?2 IS NULL)", avatar_id, owner
        )
        if not rows:
            raise NotFoundError(f"There is no avatar {avatar_id[:80]!r}.")
        return from_row(AvatarRecord, rows[0])

    def list_avatars(self, pinned_only: bool = True, owner: str | None = None) -> list[AvatarRecord]:
        """Avatars that callers asked to keep (or all), the newest first; with `owner`, only that owner's."""
        rows = self._database.query(
            "SELECT * FROM avatars WHERE pinned >= ?1 AND (owner = ?2 OR ?2 IS NULL) ORDER BY created_at DESC",
            int(pinned_only),
            owner,
        )
        return [from_row(AvatarRecord, row) for row in rows]

    def analysing_avatars(self) -> list[AvatarRecord]:
        """Avatars under analysis that callers sent for themselves, to be kept or not; the oldest first."""
        rows = self._database.query(
            "SELECT * FROM avatars WHERE status = ?1 AND awaited = 1 ORDER BY created_at",
            AvatarStatus.ANALYSING.value,
        )
        return [from_row(AvatarRecord, row) for row in rows]

    def touch_avatar(self, key: str) -> None:
        """Note that an avatar was used now. Harmless when it is gone."""
        with self._database.transaction():
            self._database.update("avatars", "key", key, {"last_used_at": timestamp(utc_now())})

    def delete_avatar(self, key: str) -> None:
        """Forget an avatar. Harmless when it is gone already."""
        with self._database.transaction():
            self._database.execute("DELETE FROM avatars WHERE key = ?1", key)

    def surplus_avatars(self, max_cached: int) -> list[AvatarRecord]:
        """Cached avatars beyond the `max_cached` last used: not pinned and not needed by an unfinished job."""
        rows = self._database.query(
            f"""
            SELECT * FROM avatars
            WHERE pinned = 0 AND key NOT IN (SELECT avatar_key FROM jobs WHERE status IN (?1, ?2))
            ORDER BY last_used_at DESC LIMIT {_ANY_NUMBER} OFFSET ?3
            """,
            *_UNFINISHED,
            max_cached,
        )
        return [from_row(AvatarRecord, row) for row in rows]

    # SQL

    def _queue_positions(self) -> dict[str, int]:
        return {
            row["id"]: int(row["position"])
            for row in self._database.query(f"{_QUEUE} SELECT id, position FROM jobs JOIN queue USING (number)")
        }

    def _jobs(self, rows: Sequence[Row], positions: Mapping[str, int] | None = None) -> list[JobRecord]:
        """The records of rows; `positions` are those of the waiting ones among them, where they are known already."""
        if positions is None:
            is_waiting = any(row["status"] == JobStatus.QUEUED.value for row in rows)
            positions = self._queue_positions() if is_waiting else {}
        return [
            from_row(
                JobRecord,
                row,
                queue_position=positions.get(row["id"]),
                callback=self.find_callback(row["id"]) if row["callback_url"] is not None else None,
            )
            for row in rows
        ]
