"""Entries of a cache that the processes of one machine share: each is made once, and none is evicted while in use.

    {folder}/{name}/whole    the entry, a file or a folder; missing while it is made
    {folder}/{name}          its modification time is its last use; flock: exclusive to make it, shared to use it

A lock ends with its process.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from lipwright.errors import StorageUnreachableError
from lipwright.jobs.model.base import new_id

COMPLETE: Final = "whole"
_LOOK_S: Final = 0.02
_RETRY_AFTER_S: Final = 5.0


class CacheEntry:
    """An entry in use, until `close`."""

    def __init__(self, path: Path, lock: int) -> None:
        self.path = path
        self._lock = lock

    def close(self) -> None:
        """Stop using the entry. May be called twice."""
        if self._lock >= 0:
            os.close(self._lock)
        self._lock = -1


def open_entry(folder: Path, file_name: str, make: Callable[[Path], None], max_wait_s: float) -> CacheEntry:
    """Return an entry in use, made first if it does not exist: `make` writes it to a path, completely or with an error.

    `file_name` is its name in `folder`; `whole` for a folder.

    Raises:
        StorageUnreachableError: Another process did not make it within `max_wait_s`.
        Exception: Whatever `make` raised.
    """
    deadline = time.monotonic() + max_wait_s
    while True:
        if (entry := open_existing_entry(folder, file_name)) is not None:
            return entry
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if (lock := _try_lock(folder, fcntl.LOCK_EX)) is not None:
            try:
                if not (folder / file_name).exists():
                    _make(folder, file_name, make)
            finally:
                os.close(lock)
            continue
        if time.monotonic() > deadline:
            raise StorageUnreachableError(
                f"{file_name}: another process did not fetch it within {max_wait_s:.0f} s.", _RETRY_AFTER_S
            )
        time.sleep(_LOOK_S)


def _make(folder: Path, file_name: str, make: Callable[[Path], None]) -> None:
    for left in folder.iterdir():  # left by a process that died
        shutil.rmtree(left) if left.is_dir() else left.unlink()
    part = folder / f".{new_id()}"
    try:
        make(part)
        part.rename(folder / file_name)
    finally:
        shutil.rmtree(part, ignore_errors=True) if part.is_dir() else part.unlink(missing_ok=True)


def open_existing_entry(folder: Path, file_name: str) -> CacheEntry | None:
    """Return an entry in use if it exists completely."""
    if not (folder / file_name).exists() or (lock := _try_lock(folder, fcntl.LOCK_SH)) is None:
        return None
    if not (folder / file_name).exists():
        os.close(lock)
        return None
    os.utime(lock)
    return CacheEntry(folder / file_name, lock)


def evict(folder: Path, trash: Path) -> bool:
    """Remove an entry that nobody uses or makes; returns whether it was removed."""
    lock = _try_lock(folder, fcntl.LOCK_EX)
    if lock is None:
        return False
    gone = trash / new_id()
    try:
        folder.rename(gone)
    except FileNotFoundError:
        return False
    finally:
        os.close(lock)
    shutil.rmtree(gone, ignore_errors=True)
    return True


def _try_lock(folder: Path, kind: int) -> int | None:
    """Return a lock on an entry that still exists; None if another process holds one."""
    try:
        file = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
        if os.path.samestat(os.fstat(file), os.stat(folder)):
            return file
    except (BlockingIOError, FileNotFoundError):
        pass
    os.close(file)
    return None
