"""What the tables ask of the database behind them; `storage.sqlite` and `storage.postgres` each have one.

Statements are written once, in what SQLite and PostgreSQL have in common; `?1`, `?2` and so on are their arguments.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

Row = Mapping[str, Any]
"""One row, by the names of its columns."""


class KeyTakenError(Exception):
    """A row with this key is there already; the table that asked says what that means."""


class Database(Protocol):
    """One connection, safe to use from several threads of one process.

    Every method raises `TableUnreachableError` while a database elsewhere does not answer.
    """

    @property
    def is_shared(self) -> bool:
        """Whether several services may be at it, so that leadership is held by a lease."""
        ...

    def close(self) -> None:
        """Give the connection back; nothing can be read or written afterwards."""

    def claim(self) -> int:
        """Become the only writer: whoever was it before can change nothing any more. Returns the claim's number."""
        ...

    def try_claim(self, holder: str, lease_s: float, is_successor: bool = False) -> bool:
        """Become the only writer for `lease_s` by the clock of the database, if nobody is it at the moment.

        Whoever has tried changes nothing any more while it is not the writer.

        Args:
            holder: The service.
            lease_s: How long.
            is_successor: Whether a lease of this same `holder` may be taken over: its earlier Director is gone.
        """
        ...

    def renew(self, lease_s: float) -> str | None:
        """Stay the only writer for another `lease_s`; StateError when somebody else has become it.

        Returns:
            The newer service that asks for its place, if one does.
        """
        ...

    def request_handover(self, successor: str, wait_s: float) -> bool:
        """Ask the writer to hand over to the service `successor` within `wait_s`. Harmless for the writer.

        Returns:
            Whether the writer is an older service: one whose name sorts before.
        """
        ...

    def hand_over(self, successor: str, lease_s: float) -> None:
        """Be the writer no longer: for `lease_s`, the service `successor` alone may become it, as an successor."""

    def release(self) -> None:
        """Be the writer no longer, so that another one need not wait. Harmless for whoever is none."""

    def check_claim(self) -> None:
        """Raise StateError when somebody else has become the writer."""

    def transaction(self) -> AbstractContextManager[None]:
        """All or nothing; inside another transaction, a part of it.

        Raises:
            StateError: Somebody else has become the writer since this one did.
            StorageFullError: The disk is full.
        """
        ...

    def query(self, statement: str, *arguments: object) -> Sequence[Row]:
        """All rows of a SELECT."""
        ...

    def execute(self, statement: str, *arguments: object) -> int:
        """Run one statement inside a transaction and return how many rows it changed."""
        ...

    def insert(self, table: str, row: Mapping[str, object], replaces: Sequence[str] = ()) -> None:
        """Add a row inside a transaction.

        Args:
            table: Where.
            row: Its columns.
            replaces: Columns of a key: a row that has the same values there is replaced.

        Raises:
            KeyTakenError: A row with one of its keys is there already.
        """

    def update(self, table: str, key_column: str, key: str, row: Mapping[str, object]) -> None:
        """Change a row inside a transaction."""

    def json_contains(self, column: str, place: str) -> str:
        """The condition that the JSON object of texts in a column has all entries of the one in an argument."""
        ...


def insertion(table: str, row: Mapping[str, object], replaces: Sequence[str]) -> str:
    """The statement behind `Database.insert`."""
    places = ", ".join(f"?{number}" for number in range(1, len(row) + 1))
    statement = f"INSERT INTO {table} ({', '.join(row)}) VALUES ({places})"
    if replaces:
        changed = ", ".join(f"{column} = excluded.{column}" for column in row if column not in replaces)
        statement += f" ON CONFLICT ({', '.join(replaces)}) DO UPDATE SET {changed}"
    return statement


def change(table: str, key_column: str, row: Mapping[str, object]) -> str:
    """The statement behind `Database.update`; the key is its last argument."""
    places = ", ".join(f"{column} = ?{number}" for number, column in enumerate(row, start=1))
    return f"UPDATE {table} SET {places} WHERE {key_column} = ?{len(row) + 1}"
