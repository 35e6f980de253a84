"""Uploads that are hashed and not kept: enough to say whether a file is one that came before."""

from __future__ import annotations

import hashlib
from typing import Protocol

from storage.records import UploadedFile
from storage.uploads import UploadWriter, clean_label


class UploadTarget(Protocol):
    """Where uploads go: a `FileStore`, or `HashOnlyTarget`."""

    def new_upload(self, file_name: str) -> UploadWriter:
        """A writer for one upload; `file_name` is the client's and only kept as a label."""
        ...


class UploadHasher(UploadWriter):
    """Takes an upload as its base does, and writes nothing."""

    def __init__(self, label: str) -> None:
        self._label = label
        self._sha256 = hashlib.sha256()
        self._num_bytes = 0

    def write(self, piece: bytes | memoryview) -> None:
        """Take `piece` into the hash."""
        self._sha256.update(piece)
        self._num_bytes += len(piece)

    def finish(self) -> UploadedFile:
        """Say what the file was; it has no key, as it lies nowhere."""
        return UploadedFile(key="", sha256=self._sha256.hexdigest(), num_bytes=self._num_bytes, label=self._label)

    def discard(self) -> None:
        """There is nothing to remove."""


class HashOnlyTarget:
    """An `UploadTarget` that keeps nothing."""

    def new_upload(self, file_name: str) -> UploadWriter:
        """A writer that hashes."""
        return UploadHasher(clean_label(file_name))
