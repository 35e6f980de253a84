"""The data folder: locked by one service, writable, and with the job table that was opened."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from lipwright.errors import ConfigError, StateError, StorageFullError
from lipwright.storage.file_store import FileStore
from lipwright.storage.local.folder import is_disk_full, make_private_folder
from lipwright.storage.sqlite.database import Database, FileIdentity, identity_of
from lipwright.storage.state import open_database

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
                raise StorageFullError(f"{full} Free disk space, then start the service again.") from error
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


_FILE = "service.lock"


@dataclass(frozen=True)
class Holder:
    """The service that uses a folder.

    Attributes:
        pid: Its process id.
        url: Its base URL; empty while it starts.
    """

    pid: int
    url: str


class FolderLock:
    """A lock that is held. The system releases it when the process ends."""

    def __init__(self, file: int | None) -> None:
        """`file` is None if another service holds the lock of a shared folder."""
        self._file = file

    def publish_url(self, url: str) -> None:
        """Write the base URL of the holder into the file."""
        if self._file is None:
            return
        text = json.dumps(asdict(Holder(os.getpid(), url))).encode()
        os.ftruncate(self._file, 0)
        os.pwrite(self._file, text, 0)


@contextmanager
def locked_folder(data_dir: Path, is_shared: bool = False) -> Iterator[FolderLock]:
    """Hold the lock of a data folder for the block; the folder is created if it is missing.

    Args:
        data_dir: The folder.
        is_shared: Whether several services may use the folder, because the job table is elsewhere. One holds the lock.

    Raises:
        ConfigError: The folder cannot be written.
        StateError: Another service holds the lock.
    """
    try:
        make_private_folder(data_dir)
        file = os.open(data_dir / _FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise unwritable(data_dir, error) from error
    try:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if is_shared:
                yield FolderLock(None)
                return
            who = _who(holder_of(data_dir))
            raise StateError(f"{data_dir}: {who} already uses it. Stop it, or choose another --data-dir.") from None
        lock = FolderLock(file)
        lock.publish_url("")
        yield lock
    finally:
        os.close(file)


def holder_of(data_dir: Path) -> Holder | None:
    """Return the service that currently holds the lock of a folder; None if there is none."""
    try:
        file = os.open(data_dir / _FILE, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return None
    except BlockingIOError:
        return _read(file)
    finally:
        os.close(file)


def _read(file: int) -> Holder:
    try:
        return Holder(**json.loads(os.pread(file, 4096, 0)))
    except (ValueError, TypeError):  # it is being written at this moment
        return Holder(0, "")


def _who(holder: Holder | None) -> str:
    if holder is None or not holder.pid:
        return "another service"
    where = f"a service at {holder.url}" if holder.url else "a service that is starting"
    return f"{where} (process {holder.pid})"
