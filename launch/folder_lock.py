"""A lock file: one service per data folder. The file names the service that holds it."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from errors import StateError
from launch.data_folder import unwritable
from storage.local.disk import make_private_folder

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
            raise StateError(f"{data_dir}: {_who(holder_of(data_dir))} already uses this data folder.") from None
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
