"""The operations on a bucket, with its errors translated to ours. All methods block."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

import obstore
from obstore.exceptions import BaseError, PreconditionError

from lipwright.errors import StorageUnreachableError, StoredFileError
from lipwright.storage.file_keys import split

if TYPE_CHECKING:
    from obstore.store import S3Store

logger = logging.getLogger(__name__)

_PART_BYTES: Final = 5 << 20  # the minimum of S3, which takes at most 10 000 parts per upload: 48 GiB
_MAX_CONCURRENT: Final = 4
_LINK_S: Final = timedelta(minutes=5)
_RETRY_AFTER_S: Final = 5.0
_SHA256: Final = "sha256"
"""Metadata of an object: the hash of the uploaded content, which the bucket itself keeps intact."""
_TYPES: Final = {".mp4": "video/mp4", ".webm": "video/webm", ".mov": "video/quicktime", ".json": "application/json"}


class ObjectInfo(NamedTuple):
    """Key, size, entity tag without quotes, and time of the last change, in seconds since the epoch, of an object."""

    key: str
    num_bytes: int
    tag: str
    changed_at: float


class Objects:
    """A bucket, or the part of it below a prefix."""

    def __init__(self, store: S3Store) -> None:
        self._store = store

    def find(self, key: str) -> ObjectInfo | None:
        """Return an object; None if there is none."""
        try:
            with _errors():
                return _to_info(obstore.head(self._store, key))
        except FileNotFoundError:
            return None

    def sha256(self, key: str) -> str | None:
        """Return the recorded hash of the content, hexadecimal, if any; FileNotFoundError if there is no object."""
        with _errors():
            return obstore.get(self._store, key, options={"head": True}).attributes.get(_SHA256)

    def list(self, folder: str) -> list[ObjectInfo]:
        """Return all objects in a folder and below."""
        with _errors(), _bucket():
            return [_to_info(found) for page in obstore.list(self._store, folder) for found in page]

    def read(self, key: str, start: int, stop: int, tag: str) -> bytes:
        """Return bytes [start, stop) of an object; StoredFileError if there is none with this tag."""
        try:
            with _errors():
                found = obstore.get(self._store, key, options={"range": (start, stop), "if_match": f'"{tag}"'})
                content = bytes(found.bytes())
        except (FileNotFoundError, PreconditionError) as error:
            raise _lost_error(key, "no file") from error
        if len(content) != stop - start:
            raise _lost_error(key, f"{len(content)} bytes in place of {stop - start}")
        return content

    def download(self, stored: ObjectInfo, path: Path) -> None:
        """Write an object to a new file, several parts at a time; StoredFileError as in `read`."""
        with open(path, "xb", opener=_private) as file, ThreadPoolExecutor(_MAX_CONCURRENT) as pool:

            def copy(start: int) -> None:
                stop = min(start + _PART_BYTES, stored.num_bytes)
                piece = memoryview(self.read(stored.key, start, stop, stored.tag))
                while piece:  # a disk that becomes full takes a part; the next write fails
                    num_written = os.pwrite(file.fileno(), piece, start)
                    piece, start = piece[num_written:], start + num_written

            list(pool.map(copy, range(0, stored.num_bytes, _PART_BYTES)))

    def upload(self, content: bytes | Path, key: str, sha256: str | None = None) -> str:
        """Upload bytes or a file atomically; returns the tag of the object."""
        attributes = {"Content-Type": _TYPES.get(Path(key).suffix, "application/octet-stream")}
        if sha256 is not None:
            attributes[_SHA256] = sha256
        with _errors(), _bucket():
            made = obstore.put(
                self._store,
                key,
                content,
                attributes=attributes,
                chunk_size=_PART_BYTES,
                max_concurrency=_MAX_CONCURRENT,
            )
        return _tag(made["e_tag"])

    def copy(self, key: str, target: str) -> None:
        """Copy an object inside the bucket; StoredFileError if it does not exist."""
        try:
            with _errors():
                obstore.copy(self._store, key, target)
        except FileNotFoundError as error:
            raise _lost_error(key, "no file") from error

    def remove(self, keys: Sequence[str]) -> None:
        """Remove objects, as far as they exist."""
        if keys:
            with _errors(), _bucket():
                obstore.delete(self._store, keys)

    def presigned_url(self, key: str, method: str) -> str:
        """Return a URL at which anyone can fetch the object for five minutes."""
        with _errors():
            return obstore.sign(self._store, "HEAD" if method == "HEAD" else "GET", key, _LINK_S)


def _to_info(found: obstore.ObjectMeta) -> ObjectInfo:
    return ObjectInfo(found["path"], found["size"], _tag(found["e_tag"]), found["last_modified"].timestamp())


def _tag(field: str | None) -> str:
    return (field or "").strip('"')


def _private(name: str, flags: int) -> int:
    return os.open(name, flags, 0o600)


def _lost_error(key: str, found: str) -> StoredFileError:
    return StoredFileError(f"{split(key)[1]}: expected the stored file, found {found}.")


@contextmanager
def _bucket() -> Iterator[None]:
    """For operations that need no object: not found means that the bucket does not exist."""
    try:
        yield
    except FileNotFoundError as error:
        logger.warning("bucket: %s", error)
        raise StorageUnreachableError("The bucket does not exist.", _RETRY_AFTER_S) from None


@contextmanager
def _errors() -> Iterator[None]:
    try:
        yield
    except PreconditionError:
        raise
    except BaseError as error:
        # The message may name internal hosts and folders, which API clients must not see.
        logger.warning("bucket: %s", error)
        raise StorageUnreachableError(f"The bucket does not answer: {type(error).__name__}.", _RETRY_AFTER_S) from None
