"""Summaries of jobs, read from the job table once for each version of a job."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Final, NamedTuple

from lipwright.jobs.model.record import JobSummary
from lipwright.storage.protocols import Database, Row
from lipwright.storage.row_codec import columns_of, from_row

HEAD: Final = "number, id, version, status"
"""The first columns, which SQLite reads without the rest of a row."""
_MAX_KEPT: Final = 1024


class _Summary(NamedTuple):
    job: JobSummary
    num_bytes: int


class JobSummaries:
    """Reads summaries from a database, and keeps them until their job changes."""

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


def _is_current(row: Row, kept: Mapping[str, _Summary]) -> bool:
    return (known := kept.get(row["id"])) is not None and known.job.version == row["version"]


def _num_bytes(row: Row) -> int:
    return sum(len(value) for value in row.values() if isinstance(value, str))
