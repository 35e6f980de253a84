"""Takes a weights file and its external data into the store.

A file is hashed while it is written, into a staging folder that is deleted with it.
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Final

from lipwright.errors import InputError, StorageFullError, WeightsError
from models.engines.weights.index import ExternalFile

MAX_BYTES: Final = 16 * 1024**3
"""Size limit of a weights file."""
_PIECE_BYTES: Final = 1 << 22
_NAME: Final = ".file"  # no external data file has this name


class StagedFile:
    """Takes one file into an empty folder of its own: with `copy`, or piece by piece with `write` and then `finish`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / _NAME
        self.origin: Path | None = None
        """Folder that the file was copied from."""
        self.external_data: tuple[ExternalFile, ...] = ()
        self._file: BinaryIO = self.path.open("xb")
        self._sum = hashlib.sha256()
        self.num_bytes = 0

    @property
    def sha256(self) -> str:
        """Of what was written so far."""
        return self._sum.hexdigest()

    def write(self, piece: bytes) -> None:
        """Append `piece`.

        Raises:
            StorageFullError: The disk is full.
            WeightsError: The file is longer than any that is taken.
        """
        self.num_bytes += len(piece)
        if self.num_bytes > MAX_BYTES:
            raise WeightsError(f"expected a file of at most {MAX_BYTES} bytes, found a longer one.")
        with _disk_errors():
            self._file.write(piece)
        self._sum.update(piece)

    def copy(self, source: Path, on_bytes: Callable[[int], object] = lambda num_bytes: None) -> None:
        """Write the whole of `source`; `on_bytes` gets the number of bytes after each write.

        Raises:
            InputError: It is not a file.
            StorageFullError: The disk does not hold it.
            WeightsError: It is longer than any that is taken.
        """
        for piece in _pieces(source, self.folder):
            self.write(piece)
            on_bytes(len(piece))
        self.origin = source.absolute().parent

    def finish(self) -> None:
        """Flush the file to disk.

        Raises:
            StorageFullError: The disk is full.
        """
        with _disk_errors():
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()

    def close(self) -> None:
        """Close the file, finished or not."""
        self._file.close()

    def copy_external_data(self, paths: dict[str, Path]) -> None:
        """Copy the files that lie beside the one copied.

        Raises:
            StorageFullError: The disk does not hold them.
        """
        self.external_data = tuple(self._copy_external_file(location, path) for location, path in sorted(paths.items()))

    def _copy_external_file(self, location: str, source: Path) -> ExternalFile:
        target = self.folder / location
        target.parent.mkdir(parents=True, exist_ok=True)
        digest, num_bytes = hashlib.sha256(), 0
        with _disk_errors(), target.open("xb") as file:
            for piece in _pieces(source, self.folder):
                file.write(piece)
                digest.update(piece)
                num_bytes += len(piece)
            file.flush()
            os.fsync(file.fileno())
        return ExternalFile(location=location, sha256=digest.hexdigest(), num_bytes=num_bytes)


def _pieces(source: Path, folder: Path) -> Iterator[bytes]:
    """Yield the file in pieces, after checking that the disk of `folder` has space for it."""
    with _open(source) as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise InputError(f"{source.name}: expected a file, found something else.")
        free = shutil.disk_usage(folder).free
        if status.st_size > free:
            raise StorageFullError(f"{source.name}: needs {status.st_size} bytes of disk space, {free} are free.")
        while piece := file.read(_PIECE_BYTES):
            yield piece


def _open(source: Path) -> BinaryIO:
    try:
        # Non-blocking: opening a pipe would wait for a writer.
        return open(source, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK))
    except OSError as error:
        raise InputError(f"{source.name}: expected a file that can be read: {error.strerror}.") from error


@contextmanager
def _disk_errors() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StorageFullError("The disk of the data folder is full.") from error
        raise


def external_data_paths(label: str, external_data: Mapping[str, int], folder: Path | None) -> dict[str, Path]:
    """Return where the external data files lie, by location.

    Args:
        label: What messages call the ONNX file.
        external_data: Relative POSIX paths, and the bytes that each must have.
        folder: Where the ONNX file lies; None when it came alone, from a URL.

    Raises:
        WeightsError: One is missing, too short, or lies outside `folder`, possibly through a link.
    """
    found = {}
    for location, num_bytes in external_data.items():
        if folder is None:
            raise WeightsError(f"{label}: expected all its data in one file, found that some is in {location}.")
        path = (folder / location).resolve()
        if not path.is_relative_to(folder.resolve()):
            raise WeightsError(f"{label}: expected external data inside its folder, found {location!r} outside.")
        if not path.is_file() or path.stat().st_size < num_bytes:
            size = f"{path.stat().st_size} bytes" if path.is_file() else "none"
            raise WeightsError(f"{label}: expected {num_bytes} bytes or more in {location} beside it, found {size}.")
        found[location] = path
    return found
