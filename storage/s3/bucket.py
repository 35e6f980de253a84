"""Files in a bucket, with a cache on each machine: `storage.files.StoredFiles` without a disk that machines share."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from errors import StoredFileError
from storage.file_keys import is_constant, split
from storage.files import FileState
from storage.local.disk import has_content
from storage.s3.cache import FileCache
from storage.s3.leases import Lease
from storage.s3.objects import Objects, Stored

_AT_ONCE: Final = 8
_TOUCHED: Final = ".touched"
"""Ending of an empty object that says when the one beside it was touched: objects keep the time of their making."""


class BucketFiles:
    """Implements `storage.files.StoredFiles`.

    Args:
        objects: The bucket.
        cache: Of this machine.
        redirects: Whether clients are sent to the bucket for files.
    """

    def __init__(self, objects: Objects, cache: FileCache, redirects: bool = False) -> None:
        self._objects, self._cache, self._redirects = objects, cache, redirects

    def find(self, key: str) -> FileState | None:
        """See `StoredFiles`."""
        if (found := self._objects.find(key)) is None:
            return None
        return FileState(found.num_bytes, found.tag, found.changed_at)

    def intact(self, contents: Mapping[str, str]) -> set[str]:
        """See `StoredFiles`. What was uploaded with its hash is not read."""
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            are_whole = pool.map(self._is_whole, contents, contents.values())
            return {key for key, is_whole in zip(contents, are_whole, strict=True) if is_whole}

    @contextmanager
    def fetched(self, key: str) -> Iterator[Path]:
        """See `StoredFiles`."""
        lease = self._lease(key)
        try:
            yield lease.path
        finally:
            lease.close()

    @contextmanager
    def fetched_folder(self, folder: str, parts: Sequence[str]) -> Iterator[Path]:
        """See `StoredFiles`."""
        lease = self._folder_lease(folder, parts)
        try:
            yield lease.path
        finally:
            lease.close()

    @contextmanager
    def written(self, key: str) -> Iterator[Path]:
        """See `StoredFiles`."""
        with self._cache.part() as folder:
            path = folder / split(key)[1]
            yield path
            self._cache.keep(path, key, self._objects.upload(path, key))

    @contextmanager
    def written_folder(self, folder: str, part: str, last: str, beside: Sequence[str] = ()) -> Iterator[Path]:
        """See `StoredFiles`."""
        with self._cache.part() as scratch:
            made = scratch / "folder"
            if beside:
                with self.fetched_folder(folder, beside) as known:
                    shutil.copytree(known, made)
            (made / part).mkdir(parents=True, exist_ok=True)
            yield made
            written = [path for path in (made / part).rglob("*") if path.is_file()]
            keys = {path: f"{folder}/{path.relative_to(made).as_posix()}" for path in written}
            whole = made / part / last
            self._objects.remove([keys[whole]])
            with ThreadPoolExecutor(_AT_ONCE) as pool:
                list(pool.map(lambda path: self._objects.upload(path, keys[path]), (p for p in written if p != whole)))
            self._objects.upload(whole, keys[whole])

    def make_folder(self, folder: str) -> None:
        """See `StoredFiles`; a bucket has none."""

    def put(self, key: str, content: bytes) -> None:
        """See `StoredFiles`."""
        self._objects.upload(content, key, hashlib.sha256(content).hexdigest())

    def staging_path(self, key: str) -> Path:
        """See `StoredFiles`."""
        return self._cache.staging_path(split(key)[1])

    def publish(self, path: Path, key: str, sha256: str) -> None:
        """See `StoredFiles`."""
        self._cache.keep(path, key, self._objects.upload(path, key, sha256))
        path.unlink(missing_ok=True)

    def move(self, key: str, target: str) -> None:
        """See `StoredFiles`; what is on this machine already is not fetched again under its new key."""
        self._objects.copy(key, target)
        if (lease := self._cache.constant(key)) is not None:
            try:
                self._cache.keep_link(lease.path, target, self._there(target).tag)
            finally:
                lease.close()
        self._objects.remove([key, key + _TOUCHED])

    def touch(self, key: str) -> None:
        """See `StoredFiles`."""
        if self._objects.find(key) is not None:
            self._objects.upload(b"", key + _TOUCHED)

    def remove(self, key: str) -> None:
        """See `StoredFiles`; copies on machines go when nobody has used them for `bucket.max_cache_idle_s`."""
        self._objects.remove([key, key + _TOUCHED])

    def remove_folder(self, folder: str) -> None:
        """See `StoredFiles`; copies as in `remove`."""
        self._objects.remove([found.key for found in self._objects.list(folder)])

    def entries(self, folder: str) -> dict[str, float]:
        """See `StoredFiles`."""
        newest: dict[str, float] = {}
        for found in self._objects.list(folder):
            name = found.key.removeprefix(f"{folder}/").partition("/")[0].removesuffix(_TOUCHED)
            newest[name] = max(newest.get(name, 0.0), found.changed_at)
        return newest

    def local_path(self, key: str) -> Path | None:
        """None: files are elsewhere."""
        return None

    def read(self, key: str, start: int, stop: int, tag: str) -> bytes:
        """See `StoredFiles`."""
        return self._objects.read(key, start, stop, tag) if stop > start else b""

    def presigned_url(self, key: str, method: str) -> str | None:
        """See `StoredFiles`."""
        return self._objects.presigned_url(key, method) if self._redirects else None

    def free_bytes(self) -> int | None:
        """None: there is no end."""
        return None

    def _is_whole(self, key: str, sha256: str) -> bool:
        try:
            noted = self._objects.sha256(key)
            if noted is not None:
                return noted == sha256
            with self.fetched(key) as path:
                return has_content(path, sha256)
        except (FileNotFoundError, StoredFileError):  # it is gone, whatever is still in the cache
            return False

    def _lease(self, key: str) -> Lease:
        if is_constant(key) and (known := self._cache.constant(key)) is not None:
            return known
        found = self._there(key)
        return self._cache.file(key, found.tag, self._fetcher(found))

    def _folder_lease(self, folder: str, parts: Sequence[str]) -> Lease:
        wanted = {}
        for found in self._objects.list(folder):
            name = found.key.removeprefix(f"{folder}/")
            if any(name == part or (part.endswith("/") and name.startswith(part)) for part in parts):
                wanted[name] = found.key, found.tag, self._fetcher(found)
        return self._cache.folder(wanted)

    def _fetcher(self, found: Stored) -> Callable[[Path], None]:
        return lambda path: self._objects.download(found, path)

    def _there(self, key: str) -> Stored:
        if (found := self._objects.find(key)) is None:
            raise StoredFileError(f"{split(key)[1]}: expected the file that was kept, found that it is gone.")
        return found
