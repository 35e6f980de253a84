"""Writing to a disk that may be full, so that a file is there whole or not at all."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from errors import StorageFullError
from storage.records import new_id

PRIVATE_FOLDER_MODE: Final = 0o700
"""Mode of folders: what callers send is nobody else's on this machine."""
_PRIVATE_FILE_MODE: Final = 0o600


def has_content(path: Path, sha256: str) -> bool:
    """Whether a file is there and holds what has this hash. Reads all of it."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == sha256
    except FileNotFoundError:
        return False


def write_atomic(path: Path, payload: bytes, mode: int = _PRIVATE_FILE_MODE) -> Path:
    """Write `payload` so that `path` is either absent, old or complete, also after a power cut.

    `mode` holds from the first byte on, less the process's umask.
    """
    partial = path.with_name(f".{path.name}.{new_id()}.part")
    try:
        with disk_errors(), open(partial, "xb", opener=lambda name, flags: os.open(name, flags, mode)) as file:
            file.write(payload)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    return path


@contextmanager
def written_atomically(out: Path) -> Iterator[Path]:
    """Give a path to write; it is moved to `out` if the block succeeds, and what else is left beside it goes."""
    with TemporaryDirectory(dir=out.parent, prefix=f".{out.name}-") as folder:
        part = Path(folder) / out.name
        yield part
        part.replace(out)


def open_private(name: str, flags: int) -> int:
    """An opener of files that are nobody else's."""
    return os.open(name, flags, _PRIVATE_FILE_MODE)


def make_private_folder(folder: Path) -> None:
    """Make a folder that is nobody else's, or make it so."""
    folder.mkdir(mode=PRIVATE_FOLDER_MODE, exist_ok=True)
    with suppress(PermissionError):  # it belongs to another user of a shared disk
        if stat.S_IMODE(folder.stat().st_mode) != PRIVATE_FOLDER_MODE:
            folder.chmod(PRIVATE_FOLDER_MODE)


@contextmanager
def disk_errors() -> Iterator[None]:
    """Turn what a full disk raises inside the block into StorageFullError."""
    try:
        yield
    except OSError as error:
        if is_disk_full(error):
            raise StorageFullError("The disk of the data folder is full.") from error
        raise


def is_disk_full(error: BaseException) -> bool:
    """Whether this is how the system says that a disk, or a share of it, is used up."""
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
