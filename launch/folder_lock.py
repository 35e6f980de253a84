"""One service a data folder: two would shut each other out for ever. The lock says who holds it."""

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

_FILE = "service.lock"


@dataclass(frozen=True)
class Holder:
    """The service that works in a folder.

    Attributes:
        pid: Its process, on its machine.
        url: Where it answers; empty while it starts.
    """

    pid: int
    url: str


class FolderLock:
    """A lock that is held; it goes with its process, whatever ends that."""

    def __init__(self, file: int | None) -> None:
        """`file` is None where another service of a shared folder holds it."""
        self._file = file

    def tell(self, url: str) -> None:
        """Write down where the holder answers."""
        if self._file is None:
            return
        text = json.dumps(asdict(Holder(os.getpid(), url))).encode()
        os.ftruncate(self._file, 0)
        os.pwrite(self._file, text, 0)


@contextmanager
def locked_folder(data_dir: Path, is_shared: bool = False) -> Iterator[FolderLock]:
    """Hold the lock of a data folder, which is made if it is missing, for the block.

    Args:
        data_dir: The folder.
        is_shared: Whether several services may work in it, as the job table is elsewhere: one of them holds it then.

    Raises:
        ConfigError: The folder cannot be written.
        StateError: Another service holds it.
    """
    try:
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
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
            raise StateError(f"{data_dir}: {_who(holder_of(data_dir))} works in this data folder.") from None
        lock = FolderLock(file)
        lock.tell("")
        yield lock
    finally:
        os.close(file)


def holder_of(data_dir: Path) -> Holder | None:
    """Return the service that holds the lock of a folder at this moment; None if nobody does."""
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
    except (ValueError, TypeError):  # it is being written
        return Holder(0, "")


def _who(holder: Holder | None) -> str:
    if holder is None or not holder.pid:
        return "another service"
    where = f"a service at {holder.url}" if holder.url else "a service that is starting"
    return f"{where} (process {holder.pid})"
