"""The base of the databases of the tables, `lipwright.storage.sqlite` and `lipwright.storage.postgres`.

Statements use only SQL that SQLite and PostgreSQL share; `?1`, `?2` and so on are their arguments.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Final, Protocol

from lipwright.errors import StandbyError

MAX_INTEGER: Final = 2**63 - 1
"""Largest integer that a column holds, and a query accepts."""
Row = Mapping[str, Any]
"""One row, by column name."""


class KeyTakenError(Exception):
    """A row with this key exists; the calling table decides what that means."""


def taken_over_error(found: int, held: int | None) -> StandbyError:
    """Return the error of a former writer; the arguments are numbers of claims."""
    where = f"it is at claim {found}, this one holds {held}"
    return StandbyError(f"Another Director has taken over the job table: {where}.", 2.0)


class Database(Protocol):
    """One connection, safe to use from several threads of one process.

    Every method raises `TableUnreachableError` while a remote database does not answer.
    """

    @property
    def is_shared(self) -> bool:
        """Whether several services may share it, so that leadership needs a lease."""

    def close(self) -> None:
        """Close the connection; nothing can be read or written afterwards."""

    def claim(self) -> int:
        """Become the only writer; the previous writer can change nothing any more. Returns the fencing token."""

    def try_claim(self, holder: str, lease_s: float, is_successor: bool = False) -> bool:
        """Become the only writer for `lease_s` by the clock of the database, if there is none.

        A caller that fails can change nothing until it becomes the writer. With `is_successor`, a lease of the same
        `holder`, the name of a service, may be taken over: its earlier Director is gone.
        """

    def renew(self, lease_s: float) -> None:
        """Extend the lease by `lease_s` from now; StandbyError if another writer has taken over."""

    def release(self) -> None:
        """Stop being the writer, so that others need not wait for the lease to end. Does nothing if it is not."""

    def check_claim(self) -> None:
        """Raise StandbyError if another writer has taken over."""

    def transaction(self) -> AbstractContextManager[None]:
        """Commit all changes of the block, or none; a nested transaction is part of the outer one.

        Raises:
            StandbyError: Another writer has taken over.
            StorageFullError: The disk is full.
        """

    def query(self, statement: str, *arguments: object) -> Sequence[Row]:
        """Return all rows of a SELECT."""

    def execute(self, statement: str, *arguments: object) -> int:
        """Run one statement inside a transaction; returns the number of changed rows.

        Raises:
            KeyTakenError: A row with one of its keys exists.
        """

    def insert(self, table: str, row: Mapping[str, object], replaces: Sequence[str] = ()) -> None:
        """Insert a row inside a transaction, or replace the one with the same values in the key columns `replaces`.

        Raises:
            KeyTakenError: Another row with one of its keys exists.
        """
        placeholders = ", ".join(f"?{number}" for number in range(1, len(row) + 1))
        statement = f"INSERT INTO {table} ({', '.join(row)}) VALUES ({placeholders})"
        if replaces:
            changed = ", ".join(f"{column} = excluded.{column}" for column in row if column not in replaces)
            statement += f" ON CONFLICT ({', '.join(replaces)}) DO UPDATE SET {changed}"
        self.execute(statement, *row.values())

    def update(self, table: str, key_column: str, key: str, row: Mapping[str, object]) -> None:
        """Update a row inside a transaction."""
        placeholders = ", ".join(f"{column} = ?{number}" for number, column in enumerate(row, start=1))
        statement = f"UPDATE {table} SET {placeholders} WHERE {key_column} = ?{len(row) + 1}"
        self.execute(statement, *row.values(), key)

    def json_contains(self, column: str, placeholder: str) -> str:
        """Return the condition that the JSON object in a column has all entries of the one in an argument."""
