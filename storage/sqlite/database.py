"""The SQLite file behind the tables: transactions, and the fence between two Directors.

A change is on the disk when its transaction returns (WAL with synchronous=FULL), so that it survives a power cut.
"""

from __future__ import annotations

import logging
import os
import sqlite3
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

from errors import ConfigError, StateError, StorageFullError, TableLostError
from storage.protocols import KeyTakenError, Row, change, insertion
from storage.schema import steps_after

logger = logging.getLogger(__name__)

_UNUSABLE: Final = frozenset(
    {
        sqlite3.SQLITE_NOTADB,
        sqlite3.SQLITE_CORRUPT,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_PERM,
        sqlite3.SQLITE_ERROR,  # a table of other columns
    }
)
_TAKEN: Final = frozenset({sqlite3.SQLITE_CONSTRAINT_UNIQUE, sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY})
_PRIMARY: Final = 0xFF  # https://www.sqlite.org/rescode.html: the low byte of an extended result code


class FileIdentity(NamedTuple):
    """Which file a path names; another one in its place has another."""

    device: int
    inode: int


def identity_of(path: Path) -> FileIdentity | None:
    """Return which file is at `path`; None if there is none.

    Raises:
        OSError: The disk does not answer.
    """
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return FileIdentity(status.st_dev, status.st_ino)


class Database:
    """Implements `storage.protocols.Database` with a file of this machine, which one service has to itself."""

    is_shared = False

    def __init__(self, path: Path) -> None:
        """Open or make the file.

        Raises:
            ConfigError: It is no table of this service, is damaged, or cannot be written.
            OSError: It cannot be made.
        """
        self._lock = threading.RLock()
        self._path = path
        self._log_path = path.with_name(f"{path.name}-wal")
        self._generation: int | None = None
        with _unusable(path):
            self._open(path)

    def _open(self, path: Path) -> None:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))  # what SQLite puts beside it has the same mode
        self._identity = identity_of(path)
        self._connect()
        self._migrate()

    def _connect(self) -> None:
        self._connection = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False, timeout=10.0)
        self._connection.row_factory = _row
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute("PRAGMA synchronous = FULL")
        self._connection.execute("PRAGMA foreign_keys = ON")
        self.query("PRAGMA user_version")  # the first look makes the log
        self._log_identity = identity_of(self._log_path)

    def _migrate(self) -> None:
        (row,) = self.query("PRAGMA user_version")
        found = int(row["user_version"])
        for number, statements in enumerate(steps_after(found), start=found + 1):
            with self.transaction():
                for statement in statements:
                    self.execute(statement)
                self.execute(f"PRAGMA user_version = {number}")

    def check_pages(self) -> None:
        """Read the whole file and write to it.

        Raises:
            ConfigError: It is damaged, or cannot be written.
        """
        with _unusable(self._path), self.transaction():
            (row,) = self.query("PRAGMA quick_check(1)")
            if row["quick_check"] != "ok":
                raise sqlite3.DatabaseError(row["quick_check"])
            self.execute("UPDATE writer SET generation = generation")

    def close(self) -> None:
        """Close the file; nothing can be read or written afterwards."""
        with self._lock:
            self._connection.close()

    def claim(self) -> int:
        """Become the only writer: whoever claimed the file before can change nothing any more.

        Returns:
            The number of this claim, counted from 1.
        """
        with self._lock:
            self._generation = None
            with self.transaction():
                self.execute("UPDATE writer SET generation = generation + 1")
                (row,) = self.query("SELECT generation FROM writer")
            self._generation = int(row["generation"])
        return self._generation

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing; inside another transaction, a part of it.

        Raises:
            StateError: Another process has claimed the file since this one did.
            StorageFullError: The disk is full.
            TableLostError: The file was deleted or replaced, or its log replaced.
        """
        with self._lock:
            if self._connection.in_transaction:
                yield
                return
            try:
                self._keep_log()
                self._connection.execute("BEGIN IMMEDIATE")
                self._check_claim()
                yield
                self._connection.execute("COMMIT")
            except BaseException as error:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                if isinstance(error, sqlite3.OperationalError) and error.sqlite_errorcode == sqlite3.SQLITE_FULL:
                    raise StorageFullError("The disk of the job table is full.") from error
                raise

    def query(self, statement: str, *arguments: object) -> list[Row]:
        """See the contract."""
        with self._lock:
            return self._connection.execute(statement, arguments).fetchall()

    def execute(self, statement: str, *arguments: object) -> int:
        """See the contract."""
        return self._connection.execute(statement, arguments).rowcount

    def insert(self, table: str, row: Mapping[str, object], replaces: Sequence[str] = ()) -> None:
        """See the contract."""
        try:
            self.execute(insertion(table, row, replaces), *row.values())
        except sqlite3.IntegrityError as error:
            if error.sqlite_errorcode in _TAKEN:
                raise KeyTakenError(table) from error
            raise

    def update(self, table: str, key_column: str, key: str, row: Mapping[str, object]) -> None:
        """See the contract."""
        self.execute(change(table, key_column, row), *row.values(), key)

    def json_contains(self, column: str, place: str) -> str:
        """See the contract."""
        return (
            f"NOT EXISTS (SELECT 1 FROM json_each({place}) AS asked WHERE NOT EXISTS (SELECT 1 FROM json_each({column})"
            " AS borne WHERE borne.key = asked.key AND borne.value = asked.value))"
        )

    def try_claim(self, holder: str, lease_s: float, is_successor: bool = False) -> bool:
        """Claim the file: nobody else has it."""
        self.claim()
        return True

    def renew(self, lease_s: float) -> str | None:
        """See the contract."""
        self.check_claim()
        return None

    def request_handover(self, successor: str, wait_s: float) -> bool:
        """Ask nobody: a file is claimed without waiting."""
        return False

    def hand_over(self, successor: str, lease_s: float) -> None:
        """Do nothing: who claims the file next does not wait."""

    def release(self) -> None:
        """Do nothing: who claims the file next does not wait."""

    def check_claim(self) -> None:
        """See `transaction`.

        Raises:
            StateError: Another process has claimed the file since this one did.
            TableLostError: The file was deleted or replaced, or its log replaced.
        """
        with self._lock:
            if not self._connection.in_transaction:
                self._keep_log()
            self._check_claim()

    def _keep_log(self) -> None:
        """Copy a log that was deleted into the file, and begin another one.

        SQLite goes on with the log that it has open. Nobody else finds it any more: what was committed since the last
        checkpoint would be gone with this process.
        """
        try:
            found = identity_of(self._log_path)
            if self._log_identity is None:  # a file system on which SQLite has no log, or none yet
                self._log_identity = found
            if found == self._log_identity or identity_of(self._path) != self._identity:
                return
            is_other = found is not None and self._log_path.stat().st_size > 0
        except OSError:  # a disk that does not answer says so by itself
            return
        if is_other:
            raise TableLostError(
                f"The log of the job table, {self._log_path.name}: expected the file that was opened, found another in "
                "its place; nothing is accepted."
            )
        (row,) = self.query("PRAGMA wal_checkpoint(PASSIVE)")
        if row["checkpointed"] < row["log"]:
            return  # somebody reads what is older; it is tried again with the next change
        self._connection.close()
        self._connect()
        logger.warning("%s was deleted; what it held is in the job table, and another one is begun", self._log_path)

    def _check_claim(self) -> None:
        try:
            found = identity_of(self._path)
        except OSError:  # a disk that does not answer says so by itself
            found = self._identity
        if found != self._identity:
            what = "that it is gone" if found is None else "another file in its place"
            raise TableLostError(
                f"The job table: expected the file that was opened, found {what}; nothing is accepted."
            )
        if self._generation is None:
            return
        (row,) = self.query("SELECT generation FROM writer")
        if row["generation"] != self._generation:
            raise StateError(
                f"The job table: expected to be its writer number {self._generation}, found {row['generation']}; "
                "another Director has taken over."
            )


def _row(cursor: sqlite3.Cursor, values: tuple[Any, ...]) -> Row:
    return {column[0]: value for column, value in zip(cursor.description, values, strict=True)}


@contextmanager
def _unusable(path: Path) -> Iterator[None]:
    """Turn what SQLite says of a file that is no table of ours into one line that says what to do."""
    try:
        yield
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error
    except sqlite3.DatabaseError as error:
        # Without a code, it is what `PRAGMA quick_check` found.
        if getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT) & _PRIMARY not in _UNUSABLE:
            raise
        raise ConfigError(
            f"{path}: expected the job table of this service, whole and writable, found: "
            f"{' '.join(str(error).split())}. Let this user write it and its folder, put a backup in its place, or "
            "move it away: without it, the service starts with no jobs."
        ) from error
