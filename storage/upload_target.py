"""Upload targets: a `FileStore`, or one that only hashes, to compare an upload with an earlier one."""

from __future__ import annotations

import hashlib
from typing import Protocol

from storage.records import UploadedFile
from storage.uploads import UploadWriter, clean_label


class UploadTarget(Protocol):
    """Receives uploads: a `FileStore` or a `HashOnlyTarget`."""

    def new_upload(self, file_name: str) -> UploadWriter:
        """Return a writer for one upload; the client's `file_name` is only kept as a label."""
        ...


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
