"""Atomic writes to a disk that may be full."""

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
from jobs.model.files import new_id

_PRIVATE_FOLDER_MODE: Final = 0o700
PRIVATE_FILE_MODE: Final = 0o600


def has_content(path: Path, sha256: str) -> bool:
    """Return whether a file exists and has this hash. Reads all of it."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == sha256
    except FileNotFoundError:
        return False


def write_atomic(path: Path, payload: bytes, mode: int = PRIVATE_FILE_MODE) -> Path:
    """Write `payload` so that `path` is either absent, old or complete, even after a power cut.

    The file has `mode`, less the process's umask, from the first byte on.
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
    """Provide a path to write; it is moved to `out` if the block succeeds, and other files next to it are removed."""
    with TemporaryDirectory(dir=out.parent, prefix=f".{out.name}-") as folder:
        part = Path(folder) / out.name
        yield part
        part.replace(out)


def open_private(name: str, flags: int) -> int:
    """Opener for files that other users may not read."""
    return os.open(name, flags, PRIVATE_FILE_MODE)


def make_private_folder(folder: Path) -> None:
    """Create a folder that other users may not read, or change the mode of an existing one.

    A folder of another user stays as it is, and so does one for temporary files of all users, such as /tmp.
    """
    folder.mkdir(mode=_PRIVATE_FOLDER_MODE, parents=True, exist_ok=True)
    mode = stat.S_IMODE(folder.stat().st_mode)
    if mode != _PRIVATE_FOLDER_MODE and not mode & stat.S_ISVTX:
        with suppress(PermissionError):
            folder.chmod(_PRIVATE_FOLDER_MODE)


_UNWRITABLE: Final = {
    errno.EROFS: "The disk of the data folder is read-only.",
    errno.EFBIG: "A file is larger than the service may write (`ulimit -f`, or a limit of the file system).",
}


@contextmanager
def disk_errors() -> Iterator[None]:
    """Raise StorageFullError if a disk is full or read-only inside the block; see `storage_error`."""
    try:
        yield
    except OSError as error:
        if (full := storage_error(error)) is not None:
            raise full from error
        raise


def is_disk_full(error: BaseException) -> bool:
    """Return whether an error means that a disk or a quota is full."""
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)


def storage_error(error: BaseException) -> StorageFullError | None:
    """Return the error for a disk that is full or read-only; None for other errors."""
    if is_disk_full(error):
        return StorageFullError("The disk of the data folder is full.")
    reason = _UNWRITABLE.get(error.errno or 0) if isinstance(error, OSError) else None
    return None if reason is None else StorageFullError(reason)
