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
from itertools import accumulate
from typing import ParamSpec, TypeVar

from lipwright.errors import NotFoundError, StateError
from lipwright.jobs.model.base import utc_now
from lipwright.jobs.model.compute import recorded_compute
from lipwright.jobs.model.record import (
    CallbackRecord,
    CallbackStatus,
    JobPage,
    JobQuery,
    JobRecord,
    JobStatus,
    JobSummary,
)
from lipwright.jobs.model.usage import Usage
from lipwright.storage.job_queue import HEAD, JobQueue, JobSummaries
from lipwright.storage.protocols import Database, KeyTakenError, Row
from lipwright.storage.row_codec import (
    AvatarRecord,
    AvatarStatus,
    SegmentRecord,
    SegmentStatus,
    checked_fields,
    from_row,
    timestamp,
    to_row,
)
from lipwright.storage.usage_table import UsageTable

_NOT_STORED = {"queue_position", "callback"}
_UNFINISHED = "('queued', 'running', 'review')"
_MAX_PAGE_BYTES = 1 << 20
"""Maximum size of the rows of a page; a page has at least one."""

P = ParamSpec("P")
T = TypeVar("T")


class JobTable:
    """The jobs, segments, webhooks and avatars of a database. Thread-safe within one process.

    Attributes:
        database: The database, which also decides which service may write.
        usage: What owners have used. Changes of jobs are counted in the same transaction.
    """

    def __init__(
        self,
        database: Database,
        on_change: Callable[[str], None] = lambda job_id: None,
        weight_of: Callable[[str | None], int] = lambda owner: 1,
    ) -> None:
        """Use a database.

        Args:
            database: The database.
            on_change: Called with the id of a job, in any thread, after each change of its row.
            weight_of: Returns the weight of an owner, by which waiting jobs start.
        """
        self._on_change = on_change
        self.database = database
        self.usage = UsageTable(database)
        self._summaries = JobSummaries(database, _NOT_STORED)
        self._queue = JobQueue(database, self._summaries, weight_of)
        self._own_thread = ThreadPoolExecutor(1, "job-table")

    async def run_in_thread(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Return `work(...)`, usually a method of this table, run in the thread of the table in order of the calls.

        The work is finished even if the caller is cancelled.
        """
        context = contextvars.copy_context()
        call = partial(context.run, work, *args, **kwargs)
        return await asyncio.shield(asyncio.get_running_loop().run_in_executor(self._own_thread, call))

    def close(self) -> None:
        """Close the database; the table cannot be used afterwards."""
        self._own_thread.shutdown()
        self.database.close()

    # Jobs

    def insert_job(self, job: JobRecord) -> JobRecord:
        """Add a job; StateError if its id or idempotency key is taken."""
        try:
            with self.database.transaction():
                self.database.insert("jobs", to_row(job, _NOT_STORED))
                self.usage.add(job.owner, Usage(jobs_submitted=1))
        except KeyTakenError as error:
            raise StateError(f"Job {job.id} or its idempotency key exists already.") from error
        return self.get_job(job.id)

    def update_job(self, job_id: str, **fields: object) -> JobSummary:
        """Change fields of a job and increment its version; a new status also sets `started_at` or `finished_at`.

        The compute time that `lipwright.jobs.model.compute` has measured in this context is counted.

        A finished job does not change: the first final status wins, and a later update returns the job unchanged. So a
        cancellation during the last segment cannot lead to two outcomes. Fields that stay as they are are not written:
        a spec and a plan may be a megabyte.

        Raises:
            NotFoundError: There is no such job.
            pydantic.ValidationError: A field does not exist or has an invalid value.
        """
        with recorded_compute() as compute, self.database.transaction():
            job = self._summary(job_id)
            self.usage.add(job.owner, Usage(**compute._asdict()))
            if job.status.is_final:
                return job
            status = JobStatus(str(fields.get("status", job.status)))
            if status is JobStatus.RUNNING and job.started_at is None:
                fields.setdefault("started_at", utc_now())
                self._queue.charge(job)
            if status.is_final:
                fields.setdefault("finished_at", utc_now())
                self.usage.add(job.owner, Usage.model_validate({f"jobs_{status.value}": 1}))
            changed = checked_fields(JobRecord, {**fields, "version": job.version + 1})
            self.database.update("jobs", "id", job_id, changed)
            if status.is_final and job.callback_url is not None:
                self.put_callback(CallbackRecord(job_id=job_id, next_at=utc_now()))
        self._on_change(job_id)
        return self._summary(job_id)

    def _summary(self, job_id: str) -> JobSummary:
        if (job := self.known_job(job_id)) is None:
            raise NotFoundError(f"There is no job {job_id[:80]!r}.")
        return job

    def get_job(self, job_id: str, owner: str | None = None) -> JobRecord:
        """Return one job; with `owner`, only if it is that owner's. NotFoundError if there is none."""
        rows = self.database.query("SELECT * FROM jobs WHERE id = ?1 AND (owner = ?2 OR ?2 IS NULL)", job_id, owner)
        if not rows:
            raise NotFoundError(f"There is no job {job_id[:80]!r}.")
        return self._job(rows[0])

    def known_job(self, job_id: str) -> JobSummary | None:
        """Return the summary of a job; None if there is none."""
        rows = self.database.query(f"SELECT {HEAD} FROM jobs WHERE id = ?1", job_id)
        return next(iter(self._to_summaries(rows)), None)

    def find_job(self, owner: str | None, idempotency_key: str) -> JobRecord | None:
        """Return the job that this owner submitted with this key, if any."""
        rows = self.database.query(
            "SELECT * FROM jobs WHERE coalesce(owner, '') = ?1 AND idempotency_key = ?2", owner or "", idempotency_key
        )
        return self._job(rows[0]) if rows else None

    def release_idempotency_key(self, job_id: str) -> None:
        """Remove the idempotency key of a finished job, so that another job may use it.

        Raises:
            NotFoundError: There is no such job.
            StateError: It is not finished.
        """
        with self.database.transaction():
            if not (job := self.get_job(job_id)).status.is_final:
                raise StateError(f"Job {job_id} keeps its idempotency key while it is {job.status}.")
            self.database.update("jobs", "id", job_id, {"idempotency_key": None})

    def list_jobs(self, query: JobQuery) -> JobPage:
        """Return a page of jobs, the newest first unless `query.oldest_first`.

        Raises:
            NotFoundError: There is no job `query.after_id`.
        """
        after = query.after if query.after_id is None else self._number_of(query.after_id, query.owner)
        comparison, order = (">", "ASC") if query.oldest_first else ("<", "DESC")
        wanted = {
            "status = {}": None if query.status is None else query.status.value,
            "owner = {}": query.owner,
            f"number {comparison} {{}}": after,
            "watermark_id = {}": query.watermark_id,
            self.database.json_contains("metadata", "{}"): json.dumps(query.metadata) if query.metadata else None,
        }
        given = {condition: value for condition, value in wanted.items() if value is not None}
        conditions = [condition.format(f"?{number}") for number, condition in enumerate(given, start=2)]
        rows = self.database.query(
            f"SELECT {HEAD} FROM jobs WHERE {' AND '.join(conditions) or 'TRUE'} ORDER BY number {order} LIMIT ?1",
            query.limit + 1,
            *given.values(),
        )
        known = self._summaries.of(rows)
        sizes = accumulate(known[row["id"]].num_bytes for row in rows if row["id"] in known)
        page = rows[: min(query.limit, max(1, sum(size <= _MAX_PAGE_BYTES for size in sizes)))]
        next_after = int(page[-1]["number"]) if len(page) < len(rows) else None
        return JobPage(jobs=self._to_summaries(page), next_after=next_after)

    def queued_jobs(self) -> list[JobSummary]:
        """Return the waiting jobs in the order in which they start."""
        return [
            job.model_copy(update={"queue_position": position}) for position, job in enumerate(self._queue.waiting())
        ]

    def unfinished_jobs(self) -> list[JobSummary]:
        """Return the running and waiting jobs and those in review, the oldest first."""
        return self._to_summaries(
            self.database.query(f"SELECT {HEAD} FROM jobs WHERE status IN {_UNFINISHED} ORDER BY number")
        )

    def finished_jobs(self, before: datetime, limit: int) -> list[JobSummary]:
        """Return at most `limit` jobs that ended before a time, in that order; none with a pending webhook."""
        rows = self.database.query(
            f"SELECT {HEAD} FROM jobs WHERE finished_at < ?1 "
            "AND id NOT IN (SELECT job_id FROM callbacks WHERE status = ?2) ORDER BY finished_at LIMIT ?3",
            timestamp(before),
            CallbackStatus.PENDING.value,
            limit,
        )
        return self._to_summaries(rows)

    def last_succeeded(self, limit: int) -> list[JobSummary]:
        """Return the jobs that succeeded last, the newest first."""
        rows = self.database.query(
            f"SELECT {HEAD} FROM jobs WHERE finished_at IS NOT NULL AND status = ?1 ORDER BY finished_at DESC LIMIT ?2",
            JobStatus.SUCCEEDED.value,
            limit,
        )
        return self._to_summaries(rows)

    def count_jobs(self, status: JobStatus) -> int:
        """Return how many jobs have this status."""
        (row,) = self.database.query("SELECT count(*) AS num FROM jobs WHERE status = ?1", status.value)
        return int(row["num"])

    def delete_job(self, job_id: str) -> None:
        """Delete a job and its segments, if it exists."""
        with self.database.transaction():
            self.database.execute("DELETE FROM jobs WHERE id = ?1", job_id)

    def record_stored_bytes(self, job_id: str, num_bytes: int) -> None:
        """Record the size of the files of a finished job, if it exists."""
        with self.database.transaction():
            self.database.update("jobs", "id", job_id, {"stored_bytes": num_bytes})

    def stored_bytes(self, owner: str | None) -> int:
        """Return the size of the files of all jobs of an owner."""
        sum_of = "SELECT sum(stored_bytes) AS num_bytes FROM jobs WHERE owner"
        (row,) = (
            self.database.query(f"{sum_of} IS NULL") if owner is None else self.database.query(f"{sum_of} = ?1", owner)
        )
        return int(row["num_bytes"] or 0)

    def job_owners(self) -> set[str | None]:
        """Return the owners of all jobs."""
        return {row["owner"] for row in self.database.query("SELECT DISTINCT owner FROM jobs")}

    # Segments

    def record_segment(self, segment: SegmentRecord, video_seconds: float = 0.0) -> None:
        """Insert or replace a segment.

        The first time that it is done counts as `video_seconds`, and as the compute time measured in this context.
        """
        with recorded_compute() as compute, self.database.transaction():
            rows = self.database.query(
                "SELECT owner, (SELECT status FROM segments WHERE job_id = id AND number = ?2) AS status "
                "FROM jobs WHERE id = ?1",
                segment.job_id,
                segment.number,
            )
            if rows and segment.status is SegmentStatus.DONE and rows[0]["status"] != SegmentStatus.DONE.value:
                self.usage.add(rows[0]["owner"], Usage(video_seconds=video_seconds, **compute._asdict()))
            self.database.insert("segments", to_row(segment), ("job_id", "number"))

    def finished_segments(self, job_id: str) -> list[SegmentRecord]:
        """Return the rendered segments of a job, in output order."""
        rows = self.database.query(
            "SELECT * FROM segments WHERE job_id = ?1 AND status = ?2 ORDER BY number", job_id, SegmentStatus.DONE.value
        )
        return [from_row(SegmentRecord, row) for row in rows]

    # Webhooks

    def put_callback(self, callback: CallbackRecord) -> None:
        """Insert or replace a webhook, if its job exists."""
        with self.database.transaction():
            if self.database.query("SELECT 1 FROM jobs WHERE id = ?1", callback.job_id):
                self.database.insert("callbacks", to_row(callback), ("job_id",))

    def find_callback(self, job_id: str) -> CallbackRecord | None:
        """Return the webhook of a finished job, if it has one."""
        rows = self.database.query("SELECT * FROM callbacks WHERE job_id = ?1", job_id)
        return from_row(CallbackRecord, rows[0]) if rows else None

    def pending_callbacks(self, max_per_key: int) -> list[CallbackRecord]:
        """Return undelivered webhooks: the first due of each API key, then the second of each, and so on."""
        rows = self.database.query(
            "SELECT callbacks.* FROM callbacks JOIN ("
            "SELECT job_id, ROW_NUMBER() OVER (PARTITION BY owner ORDER BY next_at) AS turn "
            "FROM callbacks JOIN jobs ON jobs.id = job_id WHERE callbacks.status = ?1"
            ") AS turns USING (job_id) WHERE turn <= ?2 ORDER BY turn, next_at",
            CallbackStatus.PENDING.value,
            max_per_key,
        )
        return [from_row(CallbackRecord, row) for row in rows]

    # Avatars

    def put_avatar(self, avatar: AvatarRecord) -> AvatarRecord:
        """Insert an avatar, or replace the one of the same key, keeping its id and incrementing its version."""
        with self.database.transaction():
            known = self.find_avatar(avatar.key)
            if known is not None:
                avatar = avatar.model_copy(update={"id": known.id, "version": known.version + 1})
            self.database.insert("avatars", to_row(avatar), ("key",))
        return avatar

    def update_avatar(self, key: str, **fields: object) -> AvatarRecord:
        """Change fields of an avatar and increment its version.

        Raises:
            NotFoundError: There is no such avatar.
            pydantic.ValidationError: A field does not exist or has an invalid value.
        """
        with self.database.transaction():
            known = self.find_avatar(key)
            if known is None:
                raise NotFoundError(f"There is no avatar with key {key[:80]!r}.")
            changed = {**known.model_dump(), **fields, "version": known.version + 1}
            avatar = AvatarRecord.model_validate(changed)
            self.database.update("avatars", "key", key, to_row(avatar))
        return avatar

    def find_avatar(self, key: str) -> AvatarRecord | None:
        """Return the avatar of this content key, if there is one."""
        rows = self.database.query("SELECT * FROM avatars WHERE key = ?1", key)
        return from_row(AvatarRecord, rows[0]) if rows else None

    def get_avatar(self, avatar_id: str, owner: str | None = None) -> AvatarRecord:
        """Return one avatar by its public id, as `get_job` does."""
        rows = self.database.query(
            "SELECT * FROM avatars WHERE id = ?1 AND (owner = ?2 OR ?2 IS NULL)", avatar_id, owner
        )
        if not rows:
            raise NotFoundError(f"There is no avatar {avatar_id[:80]!r}.")
        return from_row(AvatarRecord, rows[0])

    def list_avatars(self, pinned_only: bool = True, owner: str | None = None) -> list[AvatarRecord]:
        """Return the pinned avatars (or all), the newest first; with `owner`, only that owner's."""
        rows = self.database.query(
            "SELECT * FROM avatars WHERE pinned >= ?1 AND (owner = ?2 OR ?2 IS NULL) ORDER BY created_at DESC",
            int(pinned_only),
            owner,
        )
        return [from_row(AvatarRecord, row) for row in rows]

    def avatars_of(self, source_sha256: str, owner: str | None) -> list[AvatarRecord]:
        """Return all avatars that one owner has of a source, the oldest first."""
        rows = self.database.query(
            "SELECT * FROM avatars WHERE source_sha256 = ?1 AND coalesce(owner, '') = ?2 ORDER BY created_at",
            source_sha256,
            owner or "",
        )
        return [from_row(AvatarRecord, row) for row in rows]

    def avatars_belonging_to(self, key: str) -> dict[str, AvatarRecord]:
        """Return the clips and composites of an avatar, by their keys."""
        rows = self.database.query("SELECT * FROM avatars WHERE belongs_to = ?1", key)
        return {row["key"]: from_row(AvatarRecord, row) for row in rows}

    def clips_of(self, *keys: str) -> dict[str, AvatarRecord]:
        """Return the clips of avatars, by their keys."""
        places = ", ".join(f"?{number}" for number in range(1, len(keys) + 1))
        rows = self.database.query(f"SELECT * FROM avatars WHERE belongs_to IN ({places}) AND parts = '{{}}'", *keys)
        return {row["key"]: from_row(AvatarRecord, row) for row in rows}

    def backgrounds_of_avatars(self) -> dict[str, list[str]]:
        """Return the IDs of the avatars that use each stored background, by the ID of the background."""
        avatars: dict[str, list[str]] = {}
        for row in self.database.query("SELECT * FROM avatars WHERE settings IS NOT NULL ORDER BY created_at"):
            avatar = from_row(AvatarRecord, row)
            if (file_id := avatar.settings.background_id) is not None:
                avatars.setdefault(file_id, []).append(avatar.id)
        return avatars

    def analysing_avatars(self) -> list[AvatarRecord]:
        """Return the avatars under analysis that callers created themselves, the oldest first."""
        rows = self.database.query(
            "SELECT * FROM avatars WHERE status = ?1 AND analyse_on_create = 1 ORDER BY created_at",
            AvatarStatus.ANALYSING.value,
        )
        return [from_row(AvatarRecord, row) for row in rows]

    def touch_avatar(self, key: str) -> None:
        """Set the last use of an avatar to now, if it exists."""
        with self.database.transaction():
            self.database.update("avatars", "key", key, {"last_used_at": timestamp(utc_now())})

    def delete_avatar(self, key: str) -> None:
        """Delete an avatar, if it exists."""
        with self.database.transaction():
            self.database.execute("DELETE FROM avatars WHERE key = ?1", key)

    def surplus_avatars(self, max_cached: int) -> list[AvatarRecord]:
        """Return the avatars to evict, the last used first: beyond the `max_cached` last used, and remains of clips.

        None is pinned, needed by a job, part of a composite that a job needs, or a clip of an avatar. Remains are
        deleted clips, composites with deleted clips, and what belonged to deleted avatars.
        """
        rows = self.database.query(
            f"""
            SELECT * FROM avatars
            WHERE pinned = 0 AND key NOT IN (SELECT avatar_key FROM jobs WHERE status IN {_UNFINISHED}) AND NOT EXISTS (
                SELECT 1 FROM jobs WHERE status IN {_UNFINISHED} AND turn_avatar_keys LIKE '%' || avatars.key || '%'
            ) AND NOT EXISTS (
                SELECT 1 FROM jobs JOIN avatars composite ON composite.key = jobs.avatar_key
                WHERE jobs.status IN {_UNFINISHED} AND composite.parts LIKE '%' || avatars.key || '%'
            ) AND NOT EXISTS (
                SELECT 1 FROM avatars own
                WHERE own.key = avatars.belongs_to AND own.clips LIKE '%' || avatars.key || '%'
            )
            ORDER BY last_used_at DESC
            """
        )
        avatars = [from_row(AvatarRecord, row) for row in rows]
        kept = {avatar.key for avatar in [avatar for avatar in avatars if not self._remains(avatar)][:max_cached]}
        return [avatar for avatar in avatars if avatar.key not in kept]

    def _remains(self, avatar: AvatarRecord) -> bool:
        """Return whether no avatar has this clip, or all parts of this composite, any more."""
        if avatar.belongs_to is None:
            return False
        own = self.find_avatar(avatar.belongs_to)
        known = set() if own is None else {own.key, *(clip.key for clip in own.clips.values())}
        return not avatar.parts or any(part.key not in known for part in avatar.parts.values())

    def avatar_owners(self) -> dict[str, str | None]:
        """Return the owners of all avatars, by their keys."""
        return {row["key"]: row["owner"] for row in self.database.query("SELECT key, owner FROM avatars")}

    # SQL

    def _number_of(self, job_id: str, owner: str | None) -> int:
        statement = "SELECT number FROM jobs WHERE id = ?1 AND (owner = ?2 OR ?2 IS NULL)"
        if not (rows := self.database.query(statement, job_id, owner)):
            raise NotFoundError(f"after: there is no job {job_id[:80]!r}.")
        return int(rows[0]["number"])

    def _positions_for(self, rows: Sequence[Row]) -> Mapping[str, int]:
        """Return the queue positions of the waiting jobs among `rows`."""
        is_waiting = any(row["status"] == JobStatus.QUEUED.value for row in rows)
        return {job.id: position for position, job in enumerate(self._queue.waiting())} if is_waiting else {}

    def _to_summaries(self, rows: Sequence[Row]) -> list[JobSummary]:
        positions = self._positions_for(rows)
        known = self._summaries.of(rows)
        return [
            known[job_id].job.model_copy(update={"queue_position": positions.get(job_id)})
            for job_id in (row["id"] for row in rows)
            if job_id in known
        ]

    def _job(self, row: Row) -> JobRecord:
        return from_row(
            JobRecord,
            row,
            queue_position=self._positions_for([row]).get(row["id"]),
            callback=self.find_callback(row["id"]) if row["callback_url"] is not None else None,
        )
