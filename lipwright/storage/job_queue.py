"""Summaries of jobs, and the order in which waiting jobs start: by priority, then fairly between API keys."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Final, NamedTuple

from lipwright.jobs.model.fair_share import FairShare
from lipwright.jobs.model.record import JobSummary
from lipwright.storage.protocols import Database, Row
from lipwright.storage.row_codec import columns_of, from_row

HEAD: Final = "number, id, version, status"
"""The first columns, which SQLite reads without the rest of a row."""
_MAX_KEPT: Final = 1024
_MIN_COST_SECONDS: Final = 1.0


class _Summary(NamedTuple):
    job: JobSummary
    num_bytes: int


class JobSummaries:
    """Reads summaries from a database, once for each version of a job."""

    def __init__(self, database: Database, leave_out: Collection[str]) -> None:
        """Read from `database`; the fields `leave_out` are not stored."""
        self._columns = ", ".join(columns_of(JobSummary, leave_out))
        self._database = database
        self._kept: dict[str, _Summary] = {}

    def of(self, rows: Sequence[Row]) -> dict[str, _Summary]:
        """Return the summaries of rows with `HEAD`, by id; jobs that were deleted meanwhile are missing."""
        kept = self._kept  # another thread may replace it
        known = {row["id"]: kept[row["id"]] for row in rows if _is_current(row, kept)}
        stale = [row["id"] for row in rows if row["id"] not in known]
        if stale:
            places = ", ".join(f"?{number}" for number in range(1, len(stale) + 1))
            found = self._database.query(f"SELECT {self._columns} FROM jobs WHERE id IN ({places})", *stale)
            known |= {row["id"]: _Summary(from_row(JobSummary, row), _num_bytes(row)) for row in found}
            self._kept = known if len(kept) > _MAX_KEPT else kept | known
        return known


class JobQueue:
    """Jobs of a higher priority start first. Among equal ones, owners share the service by their weights.

    A job costs the length of its result. So an owner with a hundred jobs delays another's first job only by the jobs
    that already run. The cost of this depends on waiting jobs only, not on the thousands that may have ended.
    """

    def __init__(self, database: Database, summaries: JobSummaries, weight_of: Callable[[str | None], int]) -> None:
        self._database, self._summaries, self._weight_of = database, summaries, weight_of

    def waiting(self) -> list[JobSummary]:
        """Return the waiting jobs in the order in which they start."""
        rows = self._database.query(f"SELECT {HEAD} FROM jobs WHERE status = 'queued' ORDER BY number")
        known = self._summaries.of(rows)
        jobs = [known[row["id"]].job for row in rows if row["id"] in known]
        jobs.sort(key=lambda job: -job.priority)
        owners, share = {job.owner for job in jobs}, self._load()
        next_start = {owner: share.start_of(owner or "") for owner in owners}
        weights = {owner: self._weight_of(owner) for owner in owners}
        starts: dict[str, float] = {}
        for job in jobs:
            starts[job.id] = next_start[job.owner]
            next_start[job.owner] += _cost(job) / weights[job.owner]
        return sorted(jobs, key=lambda job: (-job.priority, starts[job.id]))

    def charge(self, job: JobSummary) -> None:
        """Charge a waiting job that starts to its owner, inside the transaction of the start."""
        share = self._load()
        rows = self._database.query("SELECT DISTINCT coalesce(owner, '') AS owner FROM jobs WHERE status = 'queued'")
        owner = job.owner or ""
        share.serve(owner, _cost(job), self._weight_of(job.owner), {owner, *(row["owner"] for row in rows)})
        self._database.execute("UPDATE writer SET virtual_time = ?1", share.virtual_time)
        self._database.execute("DELETE FROM fair_shares WHERE virtual_end <= ?1", share.virtual_time)
        self._database.insert("fair_shares", {"owner": owner, "virtual_end": share.ends[owner]}, ("owner",))

    def _load(self) -> FairShare[str]:
        (row,) = self._database.query("SELECT virtual_time FROM writer")
        ends = self._database.query("SELECT owner, virtual_end FROM fair_shares")
        return FairShare(row["virtual_time"], {each["owner"]: each["virtual_end"] for each in ends})


def _cost(job: JobSummary) -> float:
    return max(_MIN_COST_SECONDS, job.result_seconds)


def _is_current(row: Row, kept: Mapping[str, _Summary]) -> bool:
    return (known := kept.get(row["id"])) is not None and known.job.version == row["version"]


def _num_bytes(row: Row) -> int:
    return sum(len(value) for value in row.values() if isinstance(value, str))
