"""The tables in an SQLite file: transactions and the fencing token.

A change is on the disk when its transaction returns (WAL with synchronous=FULL), so that it survives a power cut.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

from lipwright.errors import ConfigError, StorageFullError, TableLostError, TableUnreachableError
from lipwright.storage import protocols
from lipwright.storage.protocols import KeyTakenError, Row, taken_over_error
from lipwright.storage.schema import SCHEMA_VERSION, statements_after

_UNUSABLE: Final = frozenset(
    {
        sqlite3.SQLITE_NOTADB,
        sqlite3.SQLITE_CORRUPT,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_PERM,
        sqlite3.SQLITE_ERROR,  # a table with other columns
    }
)
_TAKEN: Final = frozenset({sqlite3.SQLITE_CONSTRAINT_UNIQUE, sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY})
_PRIMARY: Final = 0xFF  # https://www.sqlite.org/rescode.html: the low byte of an extended result code
_NEEDED_BYTES: Final = 64 * 1024  # the index of the write-ahead log takes 32 KiB; without it, opening is an I/O error
_LOCK_WAIT_S: Final = 5.0
"""How long a change waits for another process that holds a lock; reads that come after it wait, too."""
_NEXT_LOCK_WAIT_S: Final = 0.1  # of further changes while the lock is held


class FileIdentity(NamedTuple):
    """Identifies the file behind a path; a replaced file has another identity."""

    device: int
    inode: int


def identity_of(path: Path) -> FileIdentity | None:
    """Return the identity of the file at `path`; None if there is none.

    Raises:
        OSError: The disk does not answer.
    """
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return FileIdentity(status.st_dev, status.st_ino)


class Database(protocols.Database):
    """A local file that only one service uses."""

    is_shared = False

    def __init__(self, path: Path) -> None:
        """Open or create the file.

        Raises:
            ConfigError: It is not a job table, is damaged, or cannot be written.
            OSError: It cannot be created.
            StorageFullError: The disk is full.
            TableUnreachableError: Another process holds a lock on the file.
        """
        self._lock = threading.RLock()
        self._path = path
        self._generation: int | None = None
        with _unusable(path), self._temporary_errors():
            self._open(path)

    def _open(self, path: Path) -> None:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))  # SQLite gives the files next to it the same mode
        self._identity = identity_of(path)
        self._connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._set_lock_wait(_LOCK_WAIT_S)
        self._connection.row_factory = _row
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute("PRAGMA synchronous = FULL")
        self._connection.execute("PRAGMA foreign_keys = ON")
        self._migrate()

    def _set_lock_wait(self, wait_s: float) -> None:
        self._lock_wait_s = wait_s
        self._connection.execute(f"PRAGMA busy_timeout = {round(1000 * wait_s)}")

    def _migrate(self) -> None:
        (row,) = self.query("PRAGMA user_version")
        if statements := statements_after(int(row["user_version"])):
            with self.transaction():
                for statement in statements:
                    self.execute(statement)
                self.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")

    def check_pages(self) -> None:
        """Raise ConfigError if the file is damaged anywhere, or cannot be written."""
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
        """See `lipwright.storage.protocols.Database`; claims are numbered from 1."""
        with self._lock:
            self._generation = None
            with self.transaction():
                self.execute("UPDATE writer SET generation = generation + 1")
                (row,) = self.query("SELECT generation FROM writer")
            self._generation = int(row["generation"])
        return self._generation

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Commit all changes of the block, or none; a nested transaction is part of the outer one.

        Raises:
            StandbyError: Another process has claimed the file since this one did.
            StorageFullError: The disk is full.
            TableLostError: The file was deleted or replaced.
            TableUnreachableError: Another process holds a lock on the file.
        """
        with self._lock:
            if self._connection.in_transaction:
                yield
                return
            try:
                with self._temporary_errors():
                    self._connection.execute("BEGIN IMMEDIATE")
                    if self._lock_wait_s < _LOCK_WAIT_S:
                        self._set_lock_wait(_LOCK_WAIT_S)
                    self._check_claim()
                    yield
                    self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise

    @contextmanager
    def _temporary_errors(self) -> Iterator[None]:
        """Translate errors after which the same statements can succeed later."""
        try:
            yield
        except sqlite3.OperationalError as error:
            extended = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR)
            code = extended & _PRIMARY
            if extended == sqlite3.SQLITE_IOERR_WRITE:  # a read-only disk, or a limit on the size of files
                raise StorageFullError("The disk of the job table cannot be written.") from error
            is_short = code == sqlite3.SQLITE_IOERR and shutil.disk_usage(self._path.parent).free < _NEEDED_BYTES
            if code == sqlite3.SQLITE_FULL or is_short:
                raise StorageFullError("The disk of the job table is full.") from error
            if code == sqlite3.SQLITE_BUSY:
                self._set_lock_wait(_NEXT_LOCK_WAIT_S)
                raise TableUnreachableError(
                    f"Another program has locked the job table, {self._path.name}, for {_LOCK_WAIT_S:.0f} s or longer. "
                    "Close the program that has the file open."
                ) from error
            raise

    def query(self, statement: str, *arguments: object) -> list[Row]:
        with self._lock, self._temporary_errors():
            return self._connection.execute(statement, arguments).fetchall()

    def execute(self, statement: str, *arguments: object) -> int:
        try:
            return self._connection.execute(statement, arguments).rowcount
        except sqlite3.IntegrityError as error:
            if error.sqlite_errorcode in _TAKEN:
                raise KeyTakenError(str(error)) from error
            raise

    def json_contains(self, column: str, placeholder: str) -> str:
        return (
            f"NOT EXISTS (SELECT 1 FROM json_each({placeholder}) AS asked WHERE NOT EXISTS ("
            f"SELECT 1 FROM json_each({column}) AS entry WHERE entry.key = asked.key AND entry.value = asked.value))"
        )

    def try_claim(self, holder: str, lease_s: float, is_successor: bool = False) -> bool:
        """Claim the file: no other service uses it."""
        self.claim()
        return True

    def renew(self, lease_s: float) -> None:
        self.check_claim()

    def release(self) -> None:
        """Do nothing: who claims the file next does not wait."""

    def check_claim(self) -> None:
        """See `transaction`.

        Raises:
            StandbyError: Another process has claimed the file since this one did.
            TableLostError: The file was deleted or replaced.
        """
        with self._lock:
            self._check_claim()

    def _check_claim(self) -> None:
        try:
            found = identity_of(self._path)
        except OSError:  # a disk that does not answer says so by itself
            found = self._identity
        if found != self._identity:
            what = "deleted" if found is None else "replaced by another file"
            raise TableLostError(f"The file of the job table was {what}; no jobs are accepted.")
        if self._generation is None:
            return
        (row,) = self.query("SELECT generation FROM writer")
        if row["generation"] != self._generation:
            raise taken_over_error(row["generation"], self._generation)


def _row(cursor: sqlite3.Cursor, values: tuple[Any, ...]) -> Row:
    return {column[0]: value for column, value in zip(cursor.description, values, strict=True)}


@contextmanager
def _unusable(path: Path) -> Iterator[None]:
    """Translate errors about an unusable file into one line that says what to do."""
    try:
        yield
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error
    except sqlite3.DatabaseError as error:
        # Without a code, it is what `PRAGMA quick_check` found.
        if getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT) & _PRIMARY not in _UNUSABLE:
            raise
        raise ConfigError(
            f"{path}: expected an intact, writable job table, found: {' '.join(str(error).split())}. Give this user "
            "write access to it and its folder, restore a backup, or move it away to start without jobs."
        ) from error
