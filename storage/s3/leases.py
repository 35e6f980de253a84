"""Entries of a cache on one machine that several processes share: each is made once, and none goes while it is used.

    {folder}/{name}/whole    the entry, a file or a folder; not there while it is made
    {folder}/{name}          its last use, by its time; locked by whoever makes (alone) or uses it (flock)

A lock goes with its process, whatever ends that.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from errors import StorageUnreachableError
from storage.records import new_id

WHOLE: Final = "whole"
_LOOK_S: Final = 0.02
_RETRY_AFTER_S: Final = 5.0


class Lease:
    """An entry in use. End it with `close`."""

    def __init__(self, path: Path, lock: int) -> None:
        self.path = path
        self._lock = lock

    def close(self) -> None:
        """Let the entry go. Harmless when done already."""
        if self._lock >= 0:
            os.close(self._lock)
        self._lock = -1


def leased(folder: Path, file_name: str, make: Callable[[Path], None], max_wait_s: float) -> Lease:
    """Return an entry in use, made if it is not there.

    Args:
        folder: Of the entry.
        file_name: What it is called in there; `whole` for a folder.
        make: Writes it to a path, whole or with an error.
        max_wait_s: Bound of the wait for another process that makes it.

    Raises:
        StorageUnreachableError: Another process has not made it in time.
        Exception: Whatever `make` raised.
    """
    deadline = time.monotonic() + max_wait_s
    while True:
        if (lease := lease_of(folder, file_name)) is not None:
            return lease
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if (lock := _locked(folder, fcntl.LOCK_EX)) is not None:
            try:
                if not (folder / file_name).exists():
                    _make(folder, file_name, make)
            finally:
                os.close(lock)
            continue
        if time.monotonic() > deadline:
            raise StorageUnreachableError(
                f"{file_name}: expected it fetched by another process within {max_wait_s:.0f} s, found no end.",
                _RETRY_AFTER_S,
            )
        time.sleep(_LOOK_S)


def _make(folder: Path, file_name: str, make: Callable[[Path], None]) -> None:
    for left in folder.iterdir():  # by a process that died
        shutil.rmtree(left) if left.is_dir() else left.unlink()
    part = folder / f".{new_id()}"
    try:
        make(part)
        part.rename(folder / file_name)
    finally:
        shutil.rmtree(part, ignore_errors=True) if part.is_dir() else part.unlink(missing_ok=True)


def lease_of(folder: Path, file_name: str) -> Lease | None:
    """An entry in use if it is there as a whole."""
    if not (folder / file_name).exists() or (lock := _locked(folder, fcntl.LOCK_SH)) is None:
        return None
    if not (folder / file_name).exists():
        os.close(lock)
        return None
    os.utime(lock)
    return Lease(folder / file_name, lock)


def drop(folder: Path, trash: Path) -> bool:
    """Remove an entry that nobody uses or makes; returns whether it did."""
    lock = _locked(folder, fcntl.LOCK_EX)
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


def _locked(folder: Path, kind: int) -> int | None:
    """A lock on an entry that is still in its place; None if another process has it."""
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
