"""Checks of the data folder: that it is writable, and that the job table is still the file that was opened."""

from __future__ import annotations

import errno
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from errors import ConfigError, StorageFullError
from storage.file_store import FileStore
from storage.local.disk import is_disk_full
from storage.sqlite.database import Database, FileIdentity, identity_of
from storage.state import open_database

_SPACE_POLL_S: Final = 1.0
_NOT_WRITABLE: Final = frozenset(
    {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST, errno.EISDIR, errno.ENOENT}
)


@dataclass(frozen=True)
class TableFile:
    """The job table's file when the service started.

    Attributes:
        path: The file.
        identity: Its device and inode; None if unknown, or if the table is in PostgreSQL.
    """

    path: Path
    identity: FileIdentity | None

    def loss(self) -> str:
        """Return what has happened to the file since; empty while it is the same."""
        try:
            found = identity_of(self.path)
        except OSError:  # the disk does not answer, but the file may still be there
            return ""
        if self.identity is None or found == self.identity:
            return ""
        what = "deleted" if found is None else "replaced"
        return f"the job table {self.path} was {what} while the service was running"


def checked_table(data_dir: Path, state: str | None = None) -> TableFile:
    """Create what is missing in a data folder, and check that the folder and the job table can be read and written.

    Args:
        data_dir: The folder.
        state: URL of the job table if it is not in the folder.

    Raises:
        ConfigError: The folder cannot be written, or the table cannot be used.
        StorageFullError: The disk is full.
        TableUnreachableError: The database does not answer, or another program has locked the table.
    """
    if state is not None:
        table = open_database(state)
        table.query("SELECT 1")
        table.close()
        return TableFile(data_dir, None)
    try:
        path = FileStore(data_dir).table_path
        database = Database(path)
        try:
            database.check_pages()
        finally:
            database.close()
        return TableFile(path, identity_of(path))
    except OSError as error:
        if is_disk_full(error):
            raise StorageFullError(f"{data_dir}: the disk is full.") from error
        raise unwritable(data_dir, error) from error


def table_with_space(data_dir: Path, state: str | None, max_wait_s: float, warn: Callable[[str], None]) -> TableFile:
    """Wait for disk space if there is none; see `checked_table`.

    Args:
        data_dir: The folder.
        state: URL of the job table if it is not in the folder.
        max_wait_s: Longest wait.
        warn: Called with a line before a wait.
    """
    deadline, is_waiting = time.monotonic() + max_wait_s, False
    while True:
        try:
            return checked_table(data_dir, state)
        except StorageFullError as error:
            full = f"{data_dir}: the disk is full."
            if time.monotonic() > deadline:
                raise StorageFullError(full) from error
            if not is_waiting:
                warn(f"{full} Waiting up to {max_wait_s:.0f} s for disk space before the service starts.")
            is_waiting = True
            time.sleep(_SPACE_POLL_S)


def unwritable(data_dir: Path, error: OSError) -> OSError | ConfigError:
    """Return a ConfigError for a data folder that cannot be written; return other errors unchanged."""
    if error.errno not in _NOT_WRITABLE:
        return error
    if data_dir.exists() and not data_dir.is_dir():
        return ConfigError(f"{data_dir}: is a file, not a folder. Choose a data folder with --data-dir.")
    return ConfigError(
        f"{error.filename or data_dir}: cannot write here ({error.strerror}). "
        f"Make the data folder writable, or choose another one with --data-dir."
    )
