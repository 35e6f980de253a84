"""The data folder before and under the service: it can be written, and its job table is the one that was opened."""

from __future__ import annotations

import errno
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from errors import ConfigError
from storage.file_store import FileStore
from storage.local.disk import is_disk_full
from storage.sqlite.database import Database, FileIdentity, identity_of
from storage.state import open_database

_NOT_WRITABLE: Final = frozenset(
    {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST, errno.EISDIR, errno.ENOENT}
)


@dataclass(frozen=True)
class TableFile:
    """The file of the job table as it was when the service started.

    Attributes:
        path: Where it lies.
        identity: Which file it was; None if nobody could say, or it is none.
    """

    path: Path
    identity: FileIdentity | None

    def loss(self) -> str:
        """What has happened to the file since; empty as long as it is the same."""
        try:
            found = identity_of(self.path)
        except OSError:  # a disk that does not answer has lost nothing yet
            return ""
        if self.identity is None or found == self.identity:
            return ""
        what = "it is gone" if found is None else "another file in its place"
        return f"the job table {self.path}: expected the file that was opened at the start, found {what}"


def checked_table(data_dir: Path, state: str | None = None) -> TableFile:
    """Make what is missing in a data folder, read the job table once, and write to both.

    On a full disk nothing is refused: the service starts there, and waits for room.

    Args:
        data_dir: The folder.
        state: The setting: where the table is, if not in there.

    Raises:
        ConfigError: The folder cannot be written, or the table cannot be used.
        TableUnreachableError: It is in a database that does not answer.
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
            return TableFile(data_dir / "jobs.sqlite3", None)
        raise unwritable(data_dir, error) from error


def unwritable(data_dir: Path, error: OSError) -> OSError | ConfigError:
    """What is told of a data folder that cannot be written; any other error stays what it is."""
    if error.errno not in _NOT_WRITABLE:
        return error
    if data_dir.exists() and not data_dir.is_dir():
        return ConfigError(f"{data_dir}: expected a data folder, found a file. Name another place with --data-dir.")
    return ConfigError(
        f"{error.filename or data_dir}: expected a data folder that this user can write, found: {error.strerror}. "
        f"Mount it writable, change its owner, or name another one with --data-dir."
    )
