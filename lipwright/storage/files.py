"""The interface of file storage, implemented by `storage.local.folder` (disk) and `storage.s3.bucket` (S3).

Files are named by their keys (`lipwright.storage.file_keys`) and used as local paths. Every method blocks on the disk
or the network. Methods of a remote store raise `StorageUnreachableError` while it does not answer; methods that write
raise `StorageFullError` when the disk is full.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

from lipwright.errors import StoredFileError
from lipwright.storage.file_keys import split

T = TypeVar("T")


@dataclass(frozen=True)
class FileState:
    """The state of an existing file: its size, the time of its last change in seconds since the epoch, and a tag.

    The tag changes when the file is replaced, and is valid in an HTTP entity tag.
    """

    num_bytes: int
    tag: str
    changed_at: float


class StoredFiles(Protocol):
    """The files of one service, seen from one process."""

    def find(self, key: str) -> FileState | None:
        """Return the state of a file; None if it does not exist."""

    def intact(self, contents: Mapping[str, str]) -> set[str]:
        """Return the keys of the files that exist with the expected content: SHA-256, hexadecimal, by key."""

    def fetched(self, key: str) -> AbstractContextManager[Path]:
        """Provide a read-only local copy of a file for the block; StoredFileError if it does not exist."""

    def fetched_folder(self, folder: str, parts: Sequence[str]) -> AbstractContextManager[Path]:
        """Provide a read-only local copy of a folder, in its current state, for the block.

        It has the `parts`, files and folders (names with a trailing `/`), as far as they exist.
        """

    def written(self, key: str) -> AbstractContextManager[Path]:
        """Provide a path to write; the file is stored under `key`, atomically, when the block succeeds."""

    def written_folder(
        self, folder: str, part: str, last: str, beside: Sequence[str] = ()
    ) -> AbstractContextManager[Path]:
        """Provide a folder of which one part is written; it is stored when the block succeeds.

        Args:
            folder: Its key.
            part: The part to write: a folder in it, with a trailing `/`, or all of it if empty.
            last: The file, by its name in the part, that marks it complete; it is removed first and stored last.
            beside: What else to provide for reading, as `parts` of `fetched_folder`.
        """

    def make_folder(self, folder: str) -> None:
        """Create a folder. On a disk, writing into a folder fails once it has been removed."""

    def put(self, key: str, content: bytes) -> None:
        """Write a small file atomically, replacing an existing one."""

    def staging_path(self, key: str) -> Path:
        """Return the local path at which to write a file in pieces before `publish`."""

    def publish(self, path: Path, key: str, sha256: str) -> None:
        """Store the file written to `staging_path(key)` atomically; `path` is consumed. `sha256` is hexadecimal."""

    def move(self, key: str, target: str) -> None:
        """Move a file to another key, replacing an existing file; StoredFileError if it does not exist."""

    def copy(self, key: str, target: str) -> None:
        """Copy a file that never changes to another key, atomically; StoredFileError if it does not exist."""

    def touch(self, key: str) -> None:
        """Set the modification time of a file to now, if it exists."""

    def remove(self, key: str) -> None:
        """Remove a file, if it exists."""

    def remove_folder(self, folder: str) -> None:
        """Remove a folder with its content, if it exists."""

    def entries(self, folder: str) -> dict[str, float]:
        """Return the names of the entries of a folder, with their last change in seconds since the epoch."""

    def states(self, folder: str) -> dict[str, FileState]:
        """Return the states of all files in a folder and below, by key; `touch` counts as a change."""

    def local_path(self, key: str) -> Path | None:
        """Return the path of a file on this machine; None if files are remote."""

    def read(self, key: str, start: int, stop: int, tag: str) -> bytes:
        """Return bytes [start, stop) of a file; StoredFileError if there is none with this tag."""

    def presigned_url(self, key: str, method: str) -> str | None:
        """Return a URL at which a client can fetch the file for some minutes; None if there is none."""

    def free_bytes(self) -> int | None:
        """Return the free space in bytes; None if it is unlimited."""


def read_whole(files: StoredFiles, key: str) -> bytes | None:
    """Return the content of a small file; None if it does not exist, or is removed in the meantime."""
    with suppress(StoredFileError):
        if (state := files.find(key)) is not None:
            return files.read(key, 0, state.num_bytes, state.tag)
    return None


def load_together(files: StoredFiles, keys: Sequence[str], load: Callable[[Path], T]) -> list[T]:
    """Return what `load` makes of each of these files of one folder."""
    names = [split(key)[1] for key in keys]
    with files.fetched_folder(split(keys[0])[0], names) as folder:
        return [load(folder / name) for name in names]
