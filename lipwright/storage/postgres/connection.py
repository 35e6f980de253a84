"""One connection to PostgreSQL, with a timeout on every wait."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final

import psycopg
from psycopg import RawCursor
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.rows import dict_row

from lipwright.errors import StorageFullError, TableUnreachableError

Connection = psycopg.Connection[dict[str, Any]]

ANSWER_S: Final = 8.0
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
def bounded(connection: Connection, timeout_s: float = ANSWER_S) -> Iterator[None]:
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
