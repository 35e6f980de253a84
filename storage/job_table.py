"""The job table: jobs, their segments, and avatars, in one SQLite file.

Used by the Director alone. Every method is one short transaction and blocks for milliseconds; a change is on the disk
when the method returns (WAL with synchronous=FULL), so that an accepted job survives a power cut.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from errors import NotFoundError, StateError
from storage.records import AvatarRecord, JobRecord, JobStatus, SegmentRecord, SegmentStatus, utc_now
from storage.rows import from_row, to_row
from storage.schema import migrate

_NOT_STORED = {"queue_position"}
_UNFINISHED = (JobStatus.QUEUED.value, JobStatus.RUNNING.value)
_QUEUE_ORDER = "ORDER BY priority DESC, number"


class JobTable:
    """See the module's text. Safe to call from several threads of one process."""

    def __init__(self, path: Path, on_change: Callable[[str], None] = lambda job_id: None) -> None:
        """Open or make the file; `on_change` is called with a job's id after each change of its row."""
        self._on_change = on_change
        self._lock = threading.RLock()
        self._connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=10.0)
        self._connection.row_factory = sqlite3.Row
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute("PRAGMA synchronous = FULL")
        self._connection.execute("PRAGMA foreign_keys = ON")
        migrate(self._connection)

    def close(self) -> None:
        """Close the file; the table cannot be used afterwards."""
        with self._lock:
            self._connection.close()

    # Jobs

    def insert_job(self, job: JobRecord) -> JobRecord:
        """Add a job.

        Raises:
            StateError: its id or idempotency key is taken.
        """
        try:
            with self._transaction():
                self._insert("jobs", to_row(job, _NOT_STORED))
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
        with self._transaction():
            job = self.get_job(job_id)
            if job.status.is_final:
                return job
            changed = {**job.model_dump(), **fields, "version": job.version + 1}
            status = JobStatus(changed["status"])
            if status is JobStatus.RUNNING:
                changed["started_at"] = changed["started_at"] or utc_now()
            if status.is_final:
                changed["finished_at"] = changed["finished_at"] or utc_now()
            self._update("jobs", "id", job_id, to_row(JobRecord.model_validate(changed), _NOT_STORED))
        self._on_change(job_id)
        return self.get_job(job_id)

    def get_job(self, job_id: str) -> JobRecord:
        """One job.

        Raises:
            NotFoundError: there is no such job.
        """
        rows = self._query("SELECT * FROM jobs WHERE id = ?", job_id)
        if not rows:
            raise NotFoundError(f"There is no job {job_id[:80]!r}.")
        return self._jobs(rows)[0]

    def find_job(self, owner: str | None, idempotency_key: str) -> JobRecord | None:
        """The job that this owner submitted under this key before, if any."""
        rows = self._query(
            "SELECT * FROM jobs WHERE coalesce(owner, '') = ? AND idempotency_key = ?", owner or "", idempotency_key
        )
        return self._jobs(rows)[0] if rows else None

    def list_jobs(self, limit: int, status: JobStatus | None = None) -> list[JobRecord]:
        """The newest jobs first, at most `limit`."""
        if status is None:
            return self._jobs(self._query("SELECT * FROM jobs ORDER BY number DESC LIMIT ?", limit))
        return self._jobs(
            self._query("SELECT * FROM jobs WHERE status = ? ORDER BY number DESC LIMIT ?", status.value, limit)
        )

    def queued_jobs(self) -> list[JobRecord]:
        """Waiting jobs in the order in which they start: higher priority, then first come."""
        return self._jobs(self._query(f"SELECT * FROM jobs WHERE status = ? {_QUEUE_ORDER}", JobStatus.QUEUED.value))

    def unfinished_jobs(self) -> list[JobRecord]:
        """Running and waiting jobs in starting order: what a Director that starts has to take up again."""
        return self._jobs(self._query(f"SELECT * FROM jobs WHERE status IN (?, ?) {_QUEUE_ORDER}", *_UNFINISHED))

    def queue_position(self, job_id: str) -> int | None:
        """How many jobs start before this one; None when it does not wait."""
        return self._queue_positions().get(job_id)

    def count_jobs(self, status: JobStatus) -> int:
        """How many jobs have this status."""
        (row,) = self._query("SELECT count(*) AS num FROM jobs WHERE status = ?", status.value)
        return int(row["num"])

    def delete_job(self, job_id: str) -> None:
        """Forget a job and its segments. Harmless when it is gone already."""
        with self._transaction():
            self._connection.execute("DELETE FROM jobs WHERE id = ?", (job_id,))

    # Segments

    def record_segment(self, segment: SegmentRecord) -> None:
        """Add a segment or replace what is known of it."""
        with self._transaction():
            self._insert("segments", to_row(segment), replace=True)

    def segments(self, job_id: str) -> list[SegmentRecord]:
        """All known segments of a job, in output order."""
        rows = self._query("SELECT * FROM segments WHERE job_id = ? ORDER BY number", job_id)
        return [from_row(SegmentRecord, row) for row in rows]

    def finished_segments(self, job_id: str) -> list[SegmentRecord]:
        """The segments whose file is there, in output order."""
        return [segment for segment in self.segments(job_id) if segment.status is SegmentStatus.DONE]

    # Avatars

    def put_avatar(self, avatar: AvatarRecord) -> AvatarRecord:
        """Add an avatar, or replace the one of the same key (keeping its id) and raise its version."""
        with self._transaction():
            known = self.find_avatar(avatar.key)
            if known is not None:
                avatar = avatar.model_copy(update={"id": known.id, "version": known.version + 1})
            self._insert("avatars", to_row(avatar), replace=True)
        return avatar

    def update_avatar(self, key: str, **fields: object) -> AvatarRecord:
        """Change fields of an avatar and raise its version.

        Raises:
            NotFoundError: there is no such avatar.
            pydantic.ValidationError: a field does not exist or has a value that it cannot have.
        """
        with self._transaction():
            known = self.find_avatar(key)
            if known is None:
                raise NotFoundError(f"There is no avatar with key {key[:80]!r}.")
            changed = {**known.model_dump(), **fields, "version": known.version + 1}
            avatar = AvatarRecord.model_validate(changed)
            self._update("avatars", "key", key, to_row(avatar))
        return avatar

    def find_avatar(self, key: str) -> AvatarRecord | None:
        """The avatar of this content key, if it was ever analysed."""
        rows = self._query("SELECT * FROM avatars WHERE key = ?", key)
        return from_row(AvatarRecord, rows[0]) if rows else None

    def get_avatar(self, avatar_id: str) -> AvatarRecord:
        """One avatar by the id that clients use.

        Raises:
            NotFoundError: there is no such avatar.
        """
        rows = self._query("SELECT * FROM avatars WHERE id = ?", avatar_id)
        if not rows:
            raise NotFoundError(f"There is no avatar {avatar_id[:80]!r}.")
        return from_row(AvatarRecord, rows[0])

    def list_avatars(self, pinned_only: bool = True) -> list[AvatarRecord]:
        """Avatars that callers asked to keep (or all), the newest first."""
        rows = self._query("SELECT * FROM avatars WHERE pinned >= ? ORDER BY created_at DESC", int(pinned_only))
        return [from_row(AvatarRecord, row) for row in rows]

    def touch_avatar(self, key: str) -> None:
        """Note that an avatar was used now. Harmless when it is gone."""
        with self._transaction():
            self._update("avatars", "key", key, {"last_used_at": utc_now().isoformat(timespec="microseconds")})

    def delete_avatar(self, key: str) -> None:
        """Forget an avatar. Harmless when it is gone already."""
        with self._transaction():
            self._connection.execute("DELETE FROM avatars WHERE key = ?", (key,))

    def surplus_avatars(self, max_cached: int) -> list[AvatarRecord]:
        """Cached avatars beyond the `max_cached` last used: not pinned and not needed by an unfinished job."""
        rows = self._query(
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

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._lock:
            if self._connection.in_transaction:
                yield
                return
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                self._connection.execute("ROLLBACK")
                raise
            self._connection.execute("COMMIT")

    def _query(self, statement: str, *arguments: object) -> list[sqlite3.Row]:
        with self._lock:
            return self._connection.execute(statement, arguments).fetchall()

    def _insert(self, table: str, row: dict[str, object], replace: bool = False) -> None:
        verb = "INSERT OR REPLACE" if replace else "INSERT"
        places = ", ".join("?" * len(row))
        self._connection.execute(f"{verb} INTO {table} ({', '.join(row)}) VALUES ({places})", tuple(row.values()))

    def _update(self, table: str, key_column: str, key: str, row: dict[str, object]) -> None:
        places = ", ".join(f"{column} = ?" for column in row)
        self._connection.execute(f"UPDATE {table} SET {places} WHERE {key_column} = ?", (*row.values(), key))

    def _queue_positions(self) -> dict[str, int]:
        rows = self._query(f"SELECT id FROM jobs WHERE status = ? {_QUEUE_ORDER}", JobStatus.QUEUED.value)
        return {row["id"]: position for position, row in enumerate(rows)}

    def _jobs(self, rows: Sequence[sqlite3.Row]) -> list[JobRecord]:
        waiting = any(row["status"] == JobStatus.QUEUED.value for row in rows)
        positions = self._queue_positions() if waiting else {}
        return [from_row(JobRecord, row, queue_position=positions.get(row["id"])) for row in rows]
