"""The folder that clients share with the service: inputs are read from it, results are copied to it.

In HeyGem's container it is `/code/data`; bare names stand for files in its `temp`, relative ones start there, absolute
ones begin with the container's name of it. Whatever a name leads to, links included, has to lie inside.
"""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import BinaryIO, Final

from errors import InputError, UrlRefusedError
from storage.local.disk import disk_errors
from storage.records import new_id

_TEMP: Final = "temp"


class DataRoot:
    """Opens what names stand for, and nothing else.

    Args:
        root: The folder.
        container_root: What clients call it in absolute paths.
    """

    def __init__(self, root: Path, container_root: str) -> None:
        self._root = Path(os.path.realpath(root))
        self._names = (PurePosixPath(container_root), PurePosixPath(root), PurePosixPath(self._root))

    def open(self, name: str) -> BinaryIO:
        """Open the file that a client's `name` stands for. Blocks on the disk.

        Raises:
            UrlRefusedError: It leads out of the folder, whether there is such a file or not.
            InputError: There is no such file.
        """
        inner = self._inner(name)
        try:
            return os.fdopen(_open_beneath(self._root, inner.parts), "rb")
        except OSError:
            raise InputError(f"There is no file {name[:200]!r} in the data root, as {str(inner)[:200]}.") from None

    def keep_result(self, code: str, result: Path) -> Path:
        """Copy a video to where clients look for that of task `code`, unless it lies there. Blocks on the disk.

        A copy, as clients move, change and delete what they find.

        Raises:
            StorageFullError: The disk is full.
        """
        folder = self._root / _TEMP
        target = folder / result_name(code)
        source = result.stat()
        try:
            known = target.lstat()
            if (known.st_size, known.st_mtime_ns) == (source.st_size, source.st_mtime_ns):
                return target
        except FileNotFoundError:
            folder.mkdir(exist_ok=True)
        partial = folder / f".{new_id()}.part"
        try:
            with disk_errors():
                shutil.copyfile(result, partial)
                os.utime(partial, ns=(source.st_atime_ns, source.st_mtime_ns))
            partial.replace(target)
        finally:
            partial.unlink(missing_ok=True)
        return target

    def _inner(self, name: str) -> PurePosixPath:
        """The way from the root to what `name` leads to, without links."""
        if "\0" in name:
            raise InputError("Expected a file name without NUL.")
        path = PurePosixPath(name)
        if path.is_absolute():
            base = next((base for base in self._names if path.is_relative_to(base)), None)
            inside = None if base is None else self._root / path.relative_to(base)
        else:
            inside = self._root / _TEMP / path
        resolved = None if inside is None else Path(os.path.realpath(inside))
        if resolved is None or not resolved.is_relative_to(self._root):
            raise UrlRefusedError(f"{name[:200]!r} is not in the data root.")
        return PurePosixPath(resolved.relative_to(self._root))


def result_name(code: str) -> str:
    """The file name of a task's video, in the folder that clients join it with."""
    return f"{code}-r.mp4"


def _open_beneath(root: Path, parts: Sequence[str]) -> int:
    """Open a regular file and follow no link: the way was resolved before, and is not to change meanwhile."""
    if not parts:
        raise IsADirectoryError
    folder = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for part in parts[:-1]:
            inner = os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=folder)
            os.close(folder)
            folder = inner
        # NONBLOCK: opening a pipe would wait for its writer.
        file = os.open(parts[-1], os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=folder)
    finally:
        os.close(folder)
    if not stat.S_ISREG(os.fstat(file).st_mode):
        os.close(file)
        raise FileNotFoundError
    return file
