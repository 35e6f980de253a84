"""What API keys have used, in the database of the job table."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, datetime, timedelta
from typing import Final

from lipwright.jobs.model.base import utc_now
from lipwright.jobs.model.compute import recorded_compute
from lipwright.jobs.model.usage import LiveUsage, Usage, UsageRow
from lipwright.storage.protocols import Database
from lipwright.storage.row_codec import timestamp

_COUNTS: Final = tuple(Usage.model_fields)
_ADDED: Final = ", ".join(f"{name} = usage.{name} + excluded.{name}" for name in _COUNTS)
_SUMS: Final = ", ".join(f"sum({name}) AS {name}" for name in _COUNTS)
_MAX_SILENCE: Final = timedelta(seconds=150)
"""A live session without a report for so long has ended with its Ingress replica."""
_KEPT: Final = timedelta(days=2)
"""How long the row of a live session is kept, so that a report that arrives late or twice counts once."""
_DECIMALS: Final = 3


class UsageTable:
    """Adds up usage by key and day. Rows do not depend on those of jobs and keys, which can be deleted."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, owner: str | None, usage: Usage) -> None:
        """Add to the sums of an owner and the current day, inside the transaction of the change that is counted."""
        if usage == Usage():
            return
        row = {"owner": owner or "", "day": utc_now().date().isoformat(), **usage.model_dump()}
        places = ", ".join(f"?{number}" for number in range(1, len(row) + 1))
        self._database.execute(
            f"INSERT INTO usage ({', '.join(row)}) VALUES ({places}) ON CONFLICT (owner, day) DO UPDATE SET {_ADDED}",
            *row.values(),
        )

    def add_compute(self, owner: str | None) -> None:
        """Add the compute time that was measured in this context, in a transaction."""
        with recorded_compute() as compute, self._database.transaction():
            self.add(owner, Usage(**compute._asdict()))

    def rows(self, first: date, last: date, owner: str | None = None) -> list[UsageRow]:
        """Return the sums of the days from `first` to `last`, in order; with `owner`, only that owner's."""
        found = self._database.query(
            "SELECT * FROM usage WHERE day >= ?1 AND day <= ?2 AND (owner = ?3 OR ?3 IS NULL) ORDER BY day, owner",
            first.isoformat(),
            last.isoformat(),
            owner,
        )
        return [
            UsageRow(
                key=row["owner"] or None, day=row["day"], **{name: round(row[name], _DECIMALS) for name in _COUNTS}
            )
            for row in found
        ]

    def total(self, owner: str, first: date) -> Usage:
        """Return the sums of an owner since a day."""
        (row,) = self._database.query(
            f"SELECT {_SUMS} FROM usage WHERE owner = ?1 AND day >= ?2", owner, first.isoformat()
        )
        return Usage.model_validate({name: row[name] or 0 for name in _COUNTS})

    def num_live_sessions(self, owner: str, now: datetime) -> int:
        """Return the number of live sessions of an owner."""
        (row,) = self._database.query(
            "SELECT count(*) AS num FROM live_sessions WHERE owner = ?1 AND is_over = 0 AND seen_at > ?2",
            owner,
            timestamp(now - _MAX_SILENCE),
        )
        return int(row["num"])

    def record_live(self, live: LiveUsage, check: Callable[[], None]) -> None:
        """Add what a live session has used since its last report, in a transaction.

        A report has totals, so one that arrives twice counts once. The first one is refused with what `check` raises.
        """
        now = utc_now()
        total = {"live_seconds": live.live_seconds, **live.compute._asdict()}
        with self._database.transaction():
            self._database.execute("DELETE FROM live_sessions WHERE seen_at < ?1", timestamp(now - _KEPT))
            rows = self._database.query("SELECT * FROM live_sessions WHERE id = ?1", live.session_id)
            if not rows:
                check()
            known = rows[0] if rows else {**dict.fromkeys(total, 0.0), "is_over": 0}
            most = {name: max(total[name], known[name]) for name in total}
            self.add(live.owner, Usage(**{name: most[name] - known[name] for name in total}))
            row = {"id": live.session_id, "owner": live.owner or "", **most, "seen_at": timestamp(now)}
            self._database.insert("live_sessions", {**row, "is_over": int(live.is_over or known["is_over"])}, ("id",))
