"""The data folder shared with HeyGem clients: inputs are read from it, results are copied to it.

It is `/code/data` in HeyGem's container. Relative names are resolved in its `temp` folder (those of voice recordings in
the data folder itself); absolute ones start with the container's path. Names and symbolic links must not lead outside.
Its files cannot be told apart by owner, so it is not used while there are several API keys.
"""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import BinaryIO, Final

from lipwright.errors import InputError, UrlRefusedError
from lipwright.jobs.model.base import new_id
from lipwright.storage.local.folder import disk_errors

_CONTAINER_ROOT: Final = PurePosixPath("/code/data")  # where HeyGem's containers mount it
_TEMP: Final = "temp"
_COPY_BYTES: Final = 1 << 20


class DataRoot:
    """Resolves client paths within the folder.

    Args:
        root: The folder.
        num_keys: Returns the current number of API keys.
        base: The folder in it in which relative names are resolved.
    """

    def __init__(self, root: Path, num_keys: Callable[[], int] = lambda: 0, base: str = _TEMP) -> None:
        self._root = Path(os.path.realpath(root))
        self._names = (_CONTAINER_ROOT, PurePosixPath(root), PurePosixPath(self._root))
        self._num_keys = num_keys
        self._base = base

    @property
    def is_shared(self) -> bool:
        """Whether callers with different API keys could use the folder; then nobody can."""
        return self._num_keys() > 1

    def open(self, name: str) -> BinaryIO:
        """Open the file with a client's `name`. Blocking.

        Raises:
            UrlRefusedError: The path is outside the folder, or there are several API keys.
            InputError: The file does not exist.
        """
        if self.is_shared:
            raise UrlRefusedError("expected an http(s) URL: the data root is not used with more than one API key.")
        inner = self._inner(name)
        try:
            return os.fdopen(_open_beneath(self._root, inner.parts), "rb")
        except OSError:
            raise InputError(f"There is no file {name[:200]!r} in the data root, as {str(inner)[:200]}.") from None

    def keep_result(self, code: str, result: Path) -> Path:
        """Copy the video of task `code` to where clients expect it, unless it is there. Blocking.

        Clients may move, change or delete the copy.

        Raises:
            UrlRefusedError: The folder for results is a link, or cannot be opened.
            StorageFullError: The disk is full.
        """
        folder, name = self._root / _TEMP, result_name(code)
        try:
            folder.mkdir(exist_ok=True)
            opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        except OSError as error:
            reason = f"cannot copy the result to the folder {_TEMP!r} in the data root: {error.strerror}"
            raise UrlRefusedError(f"{reason}. It must be a folder, not a link.") from None
        try:
            if not _is_copy(name, opened, result.stat()):
                _copy(result, name, opened)
        finally:
            os.close(opened)
        return folder / name

    def _inner(self, name: str) -> PurePosixPath:
        """Return the resolved path relative to the root."""
        if "\0" in name:
            raise InputError("Expected a file name without NUL.")
        path = PurePosixPath(name)
        if path.is_absolute():
            base = next((base for base in self._names if path.is_relative_to(base)), None)
            inside = None if base is None else self._root / path.relative_to(base)
        else:
            inside = self._root / self._base / path
        resolved = None if inside is None else Path(os.path.realpath(inside))
        if resolved is None or not resolved.is_relative_to(self._root):
            raise UrlRefusedError(f"{name[:200]!r} is not in the data root.")
        return PurePosixPath(resolved.relative_to(self._root))


def result_name(code: str) -> str:
    """Return the file name of a task's video."""
    return f"{code}-r.mp4"


def _is_copy(name: str, folder: int, source: os.stat_result) -> bool:
    try:
        known = os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return (known.st_size, known.st_mtime_ns) == (source.st_size, source.st_mtime_ns)


def _copy(result: Path, name: str, folder: int) -> None:
    """Copy a file into an opened folder; it appears there when it is complete."""
    partial = f".{new_id()}.part"
    try:
        with disk_errors(), result.open("rb") as source:
            created = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666, dir_fd=folder)
            with os.fdopen(created, "wb") as target:
                shutil.copyfileobj(source, target, _COPY_BYTES)
            times = os.fstat(source.fileno())
            os.utime(partial, ns=(times.st_atime_ns, times.st_mtime_ns), dir_fd=folder)
        os.replace(partial, name, src_dir_fd=folder, dst_dir_fd=folder)
    finally:
        with suppress(FileNotFoundError):
            os.unlink(partial, dir_fd=folder)


def _open_beneath(root: Path, parts: Sequence[str]) -> int:
    """Open a regular file without following links: the path was resolved and must not change in between."""
    if not parts:
        raise IsADirectoryError
    folder = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for part in parts[:-1]:
            inner = os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=folder)
            os.close(folder)
            folder = inner
        # NONBLOCK: opening a pipe would block.
        file = os.open(parts[-1], os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=folder)
    finally:
        os.close(folder)
    if not stat.S_ISREG(os.fstat(file).st_mode):
        os.close(file)
        raise FileNotFoundError
    return file
