"""The tables in PostgreSQL: transactions, the leader's lease, and the fencing token.

The lease runs by the clock of the database, the only one that all services share. The fencing token is a row: every
transaction reads the number of the last claim and locks it until commit. So nobody becomes the writer in the middle of
another's transaction, and a former writer cannot change anything.
"""

from __future__ import annotations

import os
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from typing import Any, Final, TypeVar

import psycopg
from psycopg import RawCursor
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.rows import dict_row

from lipwright.errors import StandbyError, StorageFullError, TableUnreachableError, UnavailableError
from lipwright.storage import protocols
from lipwright.storage.protocols import KeyTakenError, Row, taken_over_error
from lipwright.storage.schema import SCHEMA_VERSION, statements_after

T = TypeVar("T")

Connection = psycopg.Connection[dict[str, Any]]

_ANSWER_S: Final = 8.0
"""Timeout of one statement; each is a few look-ups by key."""
_SETTINGS: Final = {
    # https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-PARAMKEYWORDS
    "connect_timeout": "3",
    "tcp_user_timeout": "5000",  # milliseconds
    "keepalives_idle": "2",
    "keepalives_interval": "2",
    "keepalives_count": "2",
    "application_name": "lipwright",
}
_UNREACHABLE: Final = (
    psycopg.OperationalError,
    psycopg.InterfaceError,
    psycopg.errors.ReadOnlySqlTransaction,
    psycopg.errors.IdleInTransactionSessionTimeout,  # this process was suspended during a transaction
)
_SERVER_SETTINGS: Final = ("SET statement_timeout = '5s'", "SET idle_in_transaction_session_timeout = '10s'")
_STANDS_BY: Final = 0  # claims are numbered from 1
_PAUSE_S: Final = 0.5  # between attempts to connect; calls in between fail at once
_MIGRATION_LOCK: Final = 0x6C697077  # an arbitrary number: only one of several starting services migrates
_NOW: Final = "extract(epoch FROM clock_timestamp())::double precision"

# What differs between the DDL of SQLite and PostgreSQL. SQLAlchemy Core would replace about 90 lines, and add 29 MB,
# 30 MB of memory and 0.4 s of import time to every process that opens a table.
_WORDS: Final = (
    (re.compile(r"\) STRICT(, WITHOUT ROWID)?"), ")"),
    (re.compile(r"\bINTEGER PRIMARY KEY AUTOINCREMENT\b"), "BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY"),
    (re.compile(r"\bINTEGER\b"), "BIGINT"),
    (re.compile(r"\bREAL\b"), "DOUBLE PRECISION"),
    (re.compile(r"\bTEXT\b"), 'TEXT COLLATE "C"'),  # sorted by bytes as in SQLite, whatever the locale
)
_PLACEHOLDER: Final = re.compile(r"\?(\d+)")


class Database(protocols.Database):
    """A PostgreSQL database. Connects on first use, and reconnects when needed."""

    is_shared = True

    def __init__(self, url: str) -> None:
        self._url = url
        self._lock = threading.RLock()
        self._connection: Connection | None = None
        self._is_inside = False
        self._generation: int | None = None
        self._has_tables = False
        self._failed_at = -_PAUSE_S

    def close(self) -> None:
        with self._lock:
            self._drop()

    # Leadership

    def claim(self) -> int:
        """Does not wait for the lease of a live writer."""
        with self._lock:
            self._generation = None
            with self.transaction():
                self._generation = self._raise_generation("", 0.0, "TRUE")
            assert self._generation is not None
        return self._generation

    def try_claim(self, holder: str, lease_s: float, is_successor: bool = False) -> bool:
        may_have = f"held_until < {_NOW}" + (" OR holder = ?1" if is_successor else "")
        with self._lock:
            generation = None
            self._generation = None
            try:
                with self.transaction():
                    generation = self._raise_generation(holder, lease_s, may_have)
            finally:
                self._generation = generation or _STANDS_BY
        return generation is not None

    def _raise_generation(self, holder: str, lease_s: float, condition: str) -> int | None:
        rows = self.query(
            f"UPDATE writer SET generation = generation + 1, holder = ?1, held_until = {_NOW} + ?2::double precision "
            f"WHERE {condition} RETURNING generation",
            holder,
            lease_s,
        )
        return int(rows[0]["generation"]) if rows else None

    def renew(self, lease_s: float) -> None:
        with self.transaction():
            self.execute(f"UPDATE writer SET held_until = {_NOW} + ?1::double precision", lease_s)

    def release(self) -> None:
        with self._lock:
            if self._generation is None:
                return
            with suppress(UnavailableError), self.transaction():
                self.execute("UPDATE writer SET held_until = 0")
            self._generation = _STANDS_BY

    def check_claim(self) -> None:
        with self._lock:
            if self._generation is not None:
                self._compare(self.query("SELECT generation FROM writer"))

    def _compare(self, rows: Sequence[Row]) -> None:
        found = rows[0]["generation"]
        if found != self._generation:
            raise taken_over_error(found, self._generation)

    # Statements

    @contextmanager
    def transaction(self) -> Iterator[None]:
        with self._lock:
            if self._is_inside:
                yield
                return
            self._run(lambda connection: connection.execute("BEGIN"))
            self._is_inside = True
            try:
                if self._generation == _STANDS_BY:
                    raise StandbyError("Another service leads; this one changes nothing.", 2.0)
                if self._generation is not None:
                    self._compare(self.query("SELECT generation FROM writer FOR SHARE"))
                yield
                self.query("COMMIT")
            except BaseException:
                self._roll_back()
                raise
            finally:
                self._is_inside = False

    def query(self, statement: str, *arguments: object) -> list[Row]:

        def ask(connection: Connection) -> list[Row]:
            cursor = connection.execute(_dollars(statement), [_argument(value) for value in arguments])
            return list(cursor.fetchall()) if cursor.description is not None else []

        return self._run(ask)

    def execute(self, statement: str, *arguments: object) -> int:
        values = [_argument(value) for value in arguments]
        try:
            return self._run(lambda connection: connection.execute(_dollars(statement), values).rowcount)
        except psycopg.errors.UniqueViolation as error:
            raise KeyTakenError(str(error)) from error

    def json_contains(self, column: str, placeholder: str) -> str:
        return f"{column}::jsonb @> {placeholder}::jsonb"

    # The connection

    def _run(self, ask: Callable[[Connection], T]) -> T:
        """Return `ask(connection)`; reconnect once if the connection has died since its last use.

        Raises:
            TableUnreachableError: The database does not answer.
        """
        with self._lock:
            is_kept = self._connection is not None and not self._is_inside
            try:
                return self._run_once(ask)
            except TableUnreachableError:
                if not is_kept:
                    raise
            return self._run_once(ask)

    def _run_once(self, ask: Callable[[Connection], T]) -> T:
        if self._connection is None and self._is_inside:
            raise TableUnreachableError("The connection to the job table was lost during a transaction.")
        connection = self._connection or self._connect()
        try:
            with database_errors(), bounded(connection):
                return ask(connection)
        except TableUnreachableError:
            self._drop()
            raise

    def _connect(self) -> Connection:
        if time.monotonic() - self._failed_at < _PAUSE_S:
            raise TableUnreachableError("The database of the job table does not answer.")
        try:
            self._connection = connect(self._url)
            if not self._has_tables:
                with database_errors():
                    _make_tables(self._connection)
                self._has_tables = True
        except BaseException:
            self._failed_at = time.monotonic()
            self._drop()
            raise
        return self._connection

    def _roll_back(self) -> None:
        if self._connection is not None:
            with suppress(TableUnreachableError):
                self._run_once(lambda connection: connection.execute("ROLLBACK"))

    def _drop(self) -> None:
        if self._connection is not None:
            with suppress(psycopg.Error):
                self._connection.close()
        self._connection = None


def _make_tables(connection: Connection) -> None:
    """Create or migrate the tables; several services that start at a time do it one after the other."""
    with bounded(connection, timeout_s=60.0), connection.transaction():
        connection.execute("SELECT pg_advisory_xact_lock($1)", [_MIGRATION_LOCK])
        connection.execute("CREATE TABLE IF NOT EXISTS schema_version (number BIGINT NOT NULL)")
        rows = connection.execute("SELECT number FROM schema_version").fetchall()
        statements = statements_after(int(rows[0]["number"]) if rows else 0)
        for statement in statements:
            connection.execute(_definition(statement))
        if not rows:
            connection.execute("INSERT INTO schema_version VALUES (0)")
        if statements:
            connection.execute("UPDATE schema_version SET number = $1", [SCHEMA_VERSION])


def _definition(statement: str) -> str:
    """Return one statement of `lipwright.storage.schema` for PostgreSQL."""
    for word, other in _WORDS:
        statement = word.sub(other, statement)
    return statement


@cache
def _dollars(text: str) -> str:
    """Return one statement of the tables: `?1` becomes `$1`."""
    return _PLACEHOLDER.sub(r"$\1", text)


def _argument(value: object) -> object:
    """Return one argument. PostgreSQL text cannot hold NUL, so U+FFFD replaces it and matches nothing."""
    return value.replace("\0", "\ufffd") if isinstance(value, str) else value


def connect(url: str) -> Connection:
    """Open a connection; TableUnreachableError if the server does not answer, or refuses access."""
    asked = conninfo_to_dict(url)
    info = make_conninfo(url, **{name: value for name, value in _SETTINGS.items() if name not in asked})
    with database_errors():
        connection: Connection = psycopg.connect(info, autocommit=True, row_factory=dict_row, cursor_factory=RawCursor)
        with bounded(connection):
            for setting in _SERVER_SETTINGS:
                connection.execute(setting)
    return connection


@contextmanager
def bounded(connection: Connection, timeout_s: float = _ANSWER_S) -> Iterator[None]:
    """Shut a connection down that does not answer in time, because libpq would wait for a hung server forever."""
    watch = threading.Timer(timeout_s, _shut_down, (connection,))
    watch.daemon = True
    watch.start()
    try:
        yield
    finally:
        watch.cancel()


def _shut_down(connection: Connection) -> None:
    with suppress(OSError, psycopg.Error), socket.socket(fileno=os.dup(connection.fileno())) as connected:
        connected.shutdown(socket.SHUT_RDWR)


@contextmanager
def database_errors() -> Iterator[None]:
    """Translate errors of the driver.

    Raises:
        TableUnreachableError: The database does not answer, or accepts no changes.
        StorageFullError: Its disk is full.
    """
    try:
        yield
    except psycopg.errors.DiskFull as error:
        raise StorageFullError("The disk of the job table is full.") from error
    except _UNREACHABLE as error:
        first = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise TableUnreachableError(f"The database of the job table does not answer: {first}") from error
