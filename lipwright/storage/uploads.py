"""Writers of uploads: to where files are stored, or only hashing, to compare an upload with an earlier one."""

from __future__ import annotations

import hashlib
import os
import re
from contextlib import suppress
from typing import BinaryIO, Final, Protocol, Self

from lipwright.jobs.model.base import UploadedFile
from lipwright.storage.file_keys import split
from lipwright.storage.files import StoredFiles
from lipwright.storage.local.folder import disk_errors, open_private

_UNSAFE: Final = re.compile(r"[^\w .()+-]+")
_MAX_LABEL_CHARS: Final = 120


def clean_label(file_name: str) -> str:
    """Return a client's file name made safe to show: no folders, no control characters, at most 120 characters."""
    base = file_name.replace("\\", "/").rsplit("/", 1)[-1]
    cleaned = _UNSAFE.sub("_", base).strip(" .")
    if len(cleaned) > _MAX_LABEL_CHARS:
        stem, dot, suffix = cleaned.rpartition(".")
        keep = dot + suffix if stem and len(suffix) <= 8 else ""
        cleaned = cleaned[: _MAX_LABEL_CHARS - len(keep)] + keep
    return cleaned


class UploadWriter:
    """Writes and hashes an upload on the local disk. End it with `finish` or `discard`; a block that fails discards it.

    A remote store gets the whole file at the end, so that slow or aborted clients do not affect it, and a failed
    transfer can be repeated without the client.

    Raises:
        StorageFullError: The disk is full.
    """

    def __init__(self, files: StoredFiles, key: str, label: str) -> None:
        self._files, self._key, self._label = files, key, label
        self._path = files.staging_path(key)
        with disk_errors():
            self._file: BinaryIO = open(self._path, "xb", opener=open_private)  # noqa: SIM115  # until `finish` or `discard`
        self._sha256 = hashlib.sha256()
        self._num_bytes = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        if kind is not None:
            self.discard()

    def write(self, piece: bytes | memoryview) -> None:
        """Append `piece`; StorageFullError if the disk is full. Blocks."""
        with disk_errors():
            self._file.write(piece)
        self._sha256.update(piece)
        self._num_bytes += len(piece)

    def finish(self) -> UploadedFile:
        """Store the file durably and return its description.

        Raises:
            StorageFullError: The disk is full.
            StorageUnreachableError: The remote store does not answer.
        """
        with disk_errors():
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
            sha256 = self._sha256.hexdigest()
            self._files.publish(self._path, self._key, sha256)
        return UploadedFile(key=split(self._key)[1], sha256=sha256, num_bytes=self._num_bytes, label=self._label)

    def discard(self) -> None:
        """Remove the local file, if it exists; a copy in a remote store is swept later.

        Raises nothing, because it is called after another error.
        """
        with suppress(OSError):  # a full disk refuses the last buffered bytes once more
            self._file.close()
        with suppress(OSError):
            self._path.unlink()


class UploadTarget(Protocol):
    """Receives uploads: a `FileStore` or a `HashOnlyTarget`."""

    def new_upload(self, file_name: str) -> UploadWriter:
        """Return a writer for one upload; the client's `file_name` is only kept as a label."""


class UploadHasher(UploadWriter):
    """Hashes an upload without storing it."""

    def __init__(self, label: str) -> None:
        self._label = label
        self._sha256 = hashlib.sha256()
        self._num_bytes = 0

    def write(self, piece: bytes | memoryview) -> None:
        """Add `piece` to the hash."""
        self._sha256.update(piece)
        self._num_bytes += len(piece)

    def finish(self) -> UploadedFile:
        """Return the hash and the size; the key is empty, because nothing is stored."""
        return UploadedFile(key="", sha256=self._sha256.hexdigest(), num_bytes=self._num_bytes, label=self._label)

    def discard(self) -> None:
        """Do nothing."""


class HashOnlyTarget:
    """An `UploadTarget` that stores nothing."""

    def new_upload(self, file_name: str) -> UploadWriter:
        """Return a writer that only hashes."""
        return UploadHasher(clean_label(file_name))
