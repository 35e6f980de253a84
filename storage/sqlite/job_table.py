"""The job table: jobs, their segments and webhooks, and avatars, in one SQLite file.

Used by the Director alone. Every method is one short transaction and blocks for milliseconds; a change is on the disk
when the method returns, so that an accepted job survives a power cut.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path

from errors import NotFoundError, StateError
from storage.records import (
    AvatarRecord,
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
from storage.sqlite.database import Database
from storage.sqlite.rows import from_row, timestamp, to_row

_NOT_STORED = {"queue_position", "callback"}
_UNFINISHED = (JobStatus.QUEUED.value, JobStatus.RUNNING.value)
# Higher priority first; within one, owners take turns: a job's turn counts its owner's running jobs and those that
# wait before it, and of equal turns that of the owner whose last start is longest ago comes first. So whoever sent a
# hundred jobs delays another's first one by no more than those that run already.
_QUEUE_ORDER = """
    SELECT number, row_number() OVER (ORDER BY priority DESC, turn, last_start, number) - 1 AS position FROM (
        SELECT number, priority,
            row_number() OVER (PARTITION BY coalesce(owner, ''), priority ORDER BY number) + (
                SELECT count(*) FROM jobs AS running
                WHERE running.status = 'running' AND coalesce(running.owner, '') = coalesce(jobs.owner, '')
            ) AS turn,
            coalesce((
                SELECT started_at FROM jobs AS served WHERE coalesce(served.owner, '') = coalesce(jobs.owner, '')
                ORDER BY started_at DESC LIMIT 1
            ), '') AS last_start
        FROM jobs WHERE status = 'queued'
    )
"""


class JobTable:
    """See the module's text. Safe to call from several threads of one process."""

    def __init__(self, path: Path, on_change: Callable[[str], None] = lambda job_id: None) -> None:
        """Open or make the file; `on_change` is called with a job's id after each change of its row."""
        self._on_change = on_change
        self._database = Database(path)

    def close(self) -> None:
        """Close the file; the table cannot be used afterwards."""
        self._database.close()

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
        except sqlite3.IntegrityError as error:
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
        rows = self._database.query("SELECT * FROM jobs WHERE id = ?1 AND (?2 IS NULL OR owner = ?2)", job_id, owner)
        if not rows:
            raise NotFoundError(f"There is no job {job_id[:80]!r}.")
        return self._jobs(rows)[0]

    def find_job(self, owner: str | None, idempotency_key: str) -> JobRecord | None:
        """The job that this owner submitted under this key before, if any."""
        rows = self._database.query(
            "SELECT * FROM jobs WHERE coalesce(owner, '') = ? AND idempotency_key = ?", owner or "", idempotency_key
        )
        return self._jobs(rows)[0] if rows else None

    def free_key(self, job_id: str) -> None:
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
            """
            SELECT * FROM jobs
            WHERE (?1 IS NULL OR status = ?1) AND (?2 IS NULL OR owner = ?2) AND (?3 IS NULL OR number < ?3)
                AND NOT EXISTS (
                    SELECT 1 FROM json_each(?4) AS asked
                    WHERE NOT EXISTS (
                        SELECT 1 FROM json_each(jobs.metadata) AS borne
                        WHERE borne.key = asked.key AND borne.value = asked.value
                    )
                )
            ORDER BY number DESC LIMIT ?5
            """,
            query.status,
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
        return self._jobs(
            self._database.query(f"SELECT jobs.* FROM jobs JOIN ({_QUEUE_ORDER}) USING (number) ORDER BY position")
        )

    def unfinished_jobs(self) -> list[JobRecord]:
        """Running and waiting jobs, the oldest first: what a Director that starts has to take up again."""
        return self._jobs(
            self._database.query("SELECT * FROM jobs WHERE status IN (?, ?) ORDER BY number", *_UNFINISHED)
        )

    def finished_jobs(self, before: datetime, limit: int) -> list[JobRecord]:
        """Jobs that ended before a time, the first that ended first, at most `limit`; none whose webhook is due."""
        rows = self._database.query(
            "SELECT * FROM jobs WHERE finished_at < ? AND id NOT IN (SELECT job_id FROM callbacks WHERE status = ?) "
            "ORDER BY finished_at LIMIT ?",
            timestamp(before),
            CallbackStatus.PENDING.value,
            limit,
        )
        return self._jobs(rows)

    def last_succeeded(self, limit: int) -> list[JobRecord]:
        """The jobs that succeeded last, the newest first."""
        rows = self._database.query(
            "SELECT * FROM jobs WHERE finished_at IS NOT NULL AND status = ? ORDER BY finished_at DESC LIMIT ?",
            JobStatus.SUCCEEDED.value,
            limit,
        )
        return self._jobs(rows)

    def count_jobs(self, status: JobStatus) -> int:
        """How many jobs have this status."""
        (row,) = self._database.query("SELECT count(*) AS num FROM jobs WHERE status = ?", status.value)
        return int(row["num"])

    def delete_job(self, job_id: str) -> None:
        """Forget a job and its segments. Harmless when it is gone already."""
        with self._database.transaction():
            self._database.execute("DELETE FROM jobs WHERE id = ?", job_id)

    # Segments

    def record_segment(self, segment: SegmentRecord) -> None:
        """Add a segment or replace what is known of it."""
        with self._database.transaction():
            self._database.insert("segments", to_row(segment), replace=True)

    def segments(self, job_id: str) -> list[SegmentRecord]:
        """All known segments of a job, in output order."""
        rows = self._database.query("SELECT * FROM segments WHERE job_id = ? ORDER BY number", job_id)
        return [from_row(SegmentRecord, row) for row in rows]

    def finished_segments(self, job_id: str) -> list[SegmentRecord]:
        """The segments whose file is there, in output order."""
        return [segment for segment in self.segments(job_id) if segment.status is SegmentStatus.DONE]

    # Webhooks

    def put_callback(self, callback: CallbackRecord) -> None:
        """Add a webhook or replace what is known of it. Harmless when its job is gone."""
        with self._database.transaction():
            if self._database.query("SELECT 1 FROM jobs WHERE id = ?", callback.job_id):
                self._database.insert("callbacks", to_row(callback), replace=True)

    def find_callback(self, job_id: str) -> CallbackRecord | None:
        """The webhook of a finished job, if it has one."""
        rows = self._database.query("SELECT * FROM callbacks WHERE job_id = ?", job_id)
        return from_row(CallbackRecord, rows[0]) if rows else None

    def pending_callbacks(self, limit: int) -> list[CallbackRecord]:
        """Webhooks that have not arrived yet, the first due first."""
        rows = self._database.query(
            "SELECT * FROM callbacks WHERE status = ? ORDER BY next_at LIMIT ?", CallbackStatus.PENDING.value, limit
        )
        return [from_row(CallbackRecord, row) for row in rows]

    # Avatars

    def put_avatar(self, avatar: AvatarRecord) -> AvatarRecord:
        """Add an avatar, or replace the one of the same key (keeping its id) and raise its version."""
        with self._database.transaction():
            known = self.find_avatar(avatar.key)
            if known is not None:
                avatar = avatar.model_copy(update={"id": known.id, "version": known.version + 1})
            self._database.insert("avatars", to_row(avatar), replace=True)
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
        rows = self._database.query("SELECT * FROM avatars WHERE key = ?", key)
        return from_row(AvatarRecord, rows[0]) if rows else None

    def get_avatar(self, avatar_id: str, owner: str | None = None) -> AvatarRecord:
        """One avatar by the id that clients use; with `owner`, only if it is that owner's.

        Raises:
            NotFoundError: there is no such avatar.
        """
        rows = self._database.query(
            "SELECT * FROM avatars WHERE id = ?1 AND (?2 IS NULL OR owner = ?2)", avatar_id, owner
        )
        if not rows:
            raise NotFoundError(f"There is no avatar {avatar_id[:80]!r}.")
        return from_row(AvatarRecord, rows[0])

    def list_avatars(self, pinned_only: bool = True, owner: str | None = None) -> list[AvatarRecord]:
        """Avatars that callers asked to keep (or all), the newest first; with `owner`, only that owner's."""
        rows = self._database.query(
            "SELECT * FROM avatars WHERE pinned >= ?1 AND (?2 IS NULL OR owner = ?2) ORDER BY created_at DESC",
            int(pinned_only),
            owner,
        )
        return [from_row(AvatarRecord, row) for row in rows]

    def touch_avatar(self, key: str) -> None:
        """Note that an avatar was used now. Harmless when it is gone."""
        with self._database.transaction():
            self._database.update("avatars", "key", key, {"last_used_at": timestamp(utc_now())})

    def delete_avatar(self, key: str) -> None:
        """Forget an avatar. Harmless when it is gone already."""
        with self._database.transaction():
            self._database.execute("DELETE FROM avatars WHERE key = ?", key)

    def surplus_avatars(self, max_cached: int) -> list[AvatarRecord]:
        """Cached avatars beyond the `max_cached` last used: not pinned and not needed by an unfinished job."""
        rows = self._database.query(
            """
            SELECT * FROM avatars
            WHERE NOT pinned AND key NOT IN (SELECT avatar_key FROM jobs WHERE status IN (?, ?))
            ORDER BY last_used_at DESC LIMIT -1 OFFSET ?
            """,
            *_UNFINISHED,
            max_cached,
        )
        return [from_row(AvatarRecord, row) for row in rows]

    # SQL

    def _queue_positions(self) -> dict[str, int]:
        rows = self._database.query(f"SELECT id, position FROM jobs JOIN ({_QUEUE_ORDER}) USING (number)")
        return {row["id"]: row["position"] for row in rows}

    def _jobs(self, rows: Sequence[sqlite3.Row]) -> list[JobRecord]:
        waiting = any(row["status"] == JobStatus.QUEUED.value for row in rows)
        positions = self._queue_positions() if waiting else {}
        return [
            from_row(
                JobRecord,
                row,
                queue_position=positions.get(row["id"]),
                callback=self.find_callback(row["id"]) if row["callback_url"] is not None else None,
            )
            for row in rows
        ]
