"""Summaries of jobs, read from the job table once for each version of a job."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final, NamedTuple

from jobs.model.record import JobSummary
from storage.protocols import Database, Row
from storage.row_codec import columns_of, from_row

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
        known = {row["id"]: self._kept[row["id"]] for row in rows if self._is_current(row)}
        stale = [row["id"] for row in rows if row["id"] not in known]
        if stale:
            places = ", ".join(f"?{number}" for number in range(1, len(stale) + 1))
            found = self._database.query(f"SELECT {self._columns} FROM jobs WHERE id IN ({places})", *stale)
            known |= {row["id"]: _Summary(from_row(JobSummary, row), _num_bytes(row)) for row in found}
            if len(self._kept) > _MAX_KEPT:
                self._kept.clear()
            self._kept |= known
        return known

    def _is_current(self, row: Row) -> bool:
        return (kept := self._kept.get(row["id"])) is not None and kept.job.version == row["version"]


def _num_bytes(row: Row) -> int:
    return sum(len(value) for value in row.values() if isinstance(value, str))
