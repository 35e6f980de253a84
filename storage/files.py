"""What the service asks of the place where its files are: `storage.local.folder` is a disk, `storage.s3.bucket` S3.

Files are known by their keys (`storage.file_keys`) and worked on as paths of the machine where the work is done. Every
method blocks, on the disk or on the network. Every method of a place elsewhere raises `StorageUnreachableError` while
that does not answer, and every method that writes `StorageFullError` when the disk is full.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True)
class FileState:
    """A file that is there.

    Attributes:
        num_bytes: Its size.
        tag: Another one when the file is replaced; can stand in an entity tag of HTTP.
        changed_at: Time of the last change, seconds since the epoch.
    """

    num_bytes: int
    tag: str
    changed_at: float


class StoredFiles(Protocol):
    """The files of one service, seen from one process."""

    def find(self, key: str) -> FileState | None:
        """A file's state; None if there is none."""
        ...

    def intact(self, contents: Mapping[str, str]) -> set[str]:
        """Keys of the files that are there and hold what they should.

        Args:
            contents: The hash of each, hexadecimal, by its key.
        """
        ...

    def fetched(self, key: str) -> AbstractContextManager[Path]:
        """A file on this machine, whole, for the block. Only to be read.

        Raises:
            StoredFileError: There is none.
        """
        ...

    def fetched_folder(self, folder: str, parts: Sequence[str]) -> AbstractContextManager[Path]:
        """A folder on this machine for the block, as it is at the moment. Only to be read.

        Args:
            folder: Its key.
            parts: What has to be in it, as far as it is there: names of files, and of folders with a `/` at the end.
        """
        ...

    def written(self, key: str) -> AbstractContextManager[Path]:
        """A path to write; the file is under `key` for all once the block has ended well, whole or not at all."""
        ...

    def written_folder(
        self, folder: str, part: str, last: str, beside: Sequence[str] = ()
    ) -> AbstractContextManager[Path]:
        """A folder to write a part of; it is there for all once the block has ended well.

        Args:
            folder: Its key.
            part: What is written: a folder in it, with a `/` at the end, or all of it if empty.
            last: The file that makes the part whole, by its name in the part: while it is replaced, it is not there.
            beside: What else has to be in the folder, to be read: as `parts` of `fetched_folder`.
        """
        ...

    def make_folder(self, folder: str) -> None:
        """Have a folder to write in. On a disk, what is written into one that was removed meanwhile fails."""

    def put(self, key: str, content: bytes) -> None:
        """Write a small file, whole or not at all, in place of one that is there."""

    def staging_path(self, key: str) -> Path:
        """Where a file of this key is to be written bit by bit, for `publish`."""
        ...

    def publish(self, path: Path, key: str, sha256: str) -> None:
        """Have what was written to `staging_path(key)` be there for all, whole or not at all; `path` is used up.

        Args:
            path: What `staging_path` gave.
            key: Its key.
            sha256: Its hash, hexadecimal.
        """

    def move(self, key: str, target: str) -> None:
        """Give a file another key, in place of what is there.

        Raises:
            StoredFileError: There is none.
        """

    def touch(self, key: str) -> None:
        """Have a file count as changed now. Harmless when it is gone."""

    def remove(self, key: str) -> None:
        """Remove a file. Harmless when it is gone already."""

    def remove_folder(self, folder: str) -> None:
        """Remove a folder with all that is in it. Harmless when it is gone already."""

    def entries(self, folder: str) -> dict[str, float]:
        """Names of the files and folders in a folder, with the time of their last change, seconds since the epoch."""
        ...

    def local_path(self, key: str) -> Path | None:
        """Where a file lies, if files lie on a disk of this machine; None where they have to be fetched."""
        ...

    def read(self, key: str, start: int, stop: int, tag: str) -> bytes:
        """Bytes [start, stop) of a file.

        Raises:
            StoredFileError: There is none of this tag.
        """
        ...

    def presigned_url(self, key: str, method: str) -> str | None:
        """A URL at which a client gets a file for some minutes without a key of ours; None if there is none."""
        ...

    def free_bytes(self) -> int | None:
        """Space that is left for files; None where there is no end to it."""
        ...
