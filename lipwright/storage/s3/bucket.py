"""Files in a bucket, with a cache on each machine: machines need no shared disk."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final

from lipwright.errors import StoredFileError
from lipwright.storage.file_keys import is_constant, split
from lipwright.storage.files import FileState
from lipwright.storage.local.folder import has_content
from lipwright.storage.s3.cache import FileCache
from lipwright.storage.s3.cache_entries import CacheEntry
from lipwright.storage.s3.objects import ObjectInfo, Objects

_MAX_CONCURRENT: Final = 8
_TOUCHED: Final = ".touched"
"""Suffix of an empty object whose time is when the object beside it was touched; objects cannot be touched."""


class BucketFiles:
    """Implements `StoredFiles`; with `redirects`, clients fetch files from the bucket themselves."""

    def __init__(self, objects: Objects, cache: FileCache, redirects: bool = False) -> None:
        self._objects, self._cache, self._redirects = objects, cache, redirects

    def find(self, key: str) -> FileState | None:
        if (found := self._objects.find(key)) is None:
            return None
        return FileState(found.num_bytes, found.tag, found.changed_at)

    def intact(self, contents: Mapping[str, str]) -> set[str]:
        """Files that were uploaded with their hash are not read."""
        with ThreadPoolExecutor(_MAX_CONCURRENT) as pool:
            are_intact = pool.map(self._is_intact, contents, contents.values())
            return {key for key, is_intact in zip(contents, are_intact, strict=True) if is_intact}

    @contextmanager
    def fetched(self, key: str) -> Iterator[Path]:
        with closing(self._open_file(key)) as entry:
            yield entry.path

    @contextmanager
    def fetched_folder(self, folder: str, parts: Sequence[str]) -> Iterator[Path]:
        with closing(self._open_folder(folder, parts)) as entry:
            yield entry.path

    @contextmanager
    def written(self, key: str) -> Iterator[Path]:
        with self._cache.part() as folder:
            path = folder / split(key)[1]
            yield path
            self._cache.keep(path, key, self._objects.upload(path, key))

    @contextmanager
    def written_folder(self, folder: str, part: str, last: str, beside: Sequence[str] = ()) -> Iterator[Path]:
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
            with ThreadPoolExecutor(_MAX_CONCURRENT) as pool:
                list(pool.map(lambda path: self._objects.upload(path, keys[path]), (p for p in written if p != whole)))
            self._objects.upload(whole, keys[whole])

    def make_folder(self, folder: str) -> None:
        """Do nothing: a bucket has no folders."""

    def put(self, key: str, content: bytes) -> None:
        self._objects.upload(content, key, hashlib.sha256(content).hexdigest())

    def staging_path(self, key: str) -> Path:
        return self._cache.staging_path(split(key)[1])

    def publish(self, path: Path, key: str, sha256: str) -> None:
        self._cache.keep(path, key, self._objects.upload(path, key, sha256))
        path.unlink(missing_ok=True)

    def move(self, key: str, target: str) -> None:
        """A cached copy is reused under the new key."""
        self._objects.copy(key, target)
        if (entry := self._cache.constant(key)) is not None:
            with closing(entry):
                self._cache.keep_link(entry.path, target, self._existing_object(target).tag)
        self._objects.remove([key, key + _TOUCHED])

    def copy(self, key: str, target: str) -> None:
        self._objects.copy(key, target)

    def touch(self, key: str) -> None:
        if self._objects.find(key) is not None:
            self._objects.upload(b"", key + _TOUCHED)

    def remove(self, key: str) -> None:
        """Cached copies are evicted after `bucket.max_cache_idle_s` without use."""
        self._objects.remove([key, key + _TOUCHED])

    def remove_folder(self, folder: str) -> None:
        """For cached copies see `remove`."""
        self._objects.remove([found.key for found in self._objects.list(folder)])

    def entries(self, folder: str) -> dict[str, float]:
        newest: dict[str, float] = {}
        for found in self._objects.list(folder):
            name = found.key.removeprefix(f"{folder}/").partition("/")[0].removesuffix(_TOUCHED)
            newest[name] = max(newest.get(name, 0.0), found.changed_at)
        return newest

    def states(self, folder: str) -> dict[str, FileState]:
        listed = {found.key: found for found in self._objects.list(folder)}
        return {
            key: FileState(
                found.num_bytes, found.tag, max(found.changed_at, listed.get(key + _TOUCHED, found).changed_at)
            )
            for key, found in listed.items()
            if not key.endswith(_TOUCHED)
        }

    def local_path(self, key: str) -> Path | None:
        """Files are remote."""
        return None

    def read(self, key: str, start: int, stop: int, tag: str) -> bytes:
        return self._objects.read(key, start, stop, tag) if stop > start else b""

    def presigned_url(self, key: str, method: str) -> str | None:
        return self._objects.presigned_url(key, method) if self._redirects else None

    def free_bytes(self) -> int | None:
        """A bucket is unlimited."""
        return None

    def _is_intact(self, key: str, sha256: str) -> bool:
        try:
            noted = self._objects.sha256(key)
            if noted is not None:
                return noted == sha256
            with self.fetched(key) as path:
                return has_content(path, sha256)
        except (FileNotFoundError, StoredFileError):  # gone from the bucket, whatever the cache has
            return False

    def _open_file(self, key: str) -> CacheEntry:
        if is_constant(key) and (known := self._cache.constant(key)) is not None:
            return known
        found = self._existing_object(key)
        return self._cache.file(key, found.tag, self._fetcher(found))

    def _open_folder(self, folder: str, parts: Sequence[str]) -> CacheEntry:
        wanted = {}
        for found in self._objects.list(folder):
            name = found.key.removeprefix(f"{folder}/")
            if any(name == part or (part.endswith("/") and name.startswith(part)) for part in parts):
                wanted[name] = found.key, found.tag, self._fetcher(found)
        return self._cache.folder(wanted)

    def _fetcher(self, found: ObjectInfo) -> Callable[[Path], None]:
        return lambda path: self._objects.download(found, path)

    def _existing_object(self, key: str) -> ObjectInfo:
        if (found := self._objects.find(key)) is None:
            raise StoredFileError(f"{split(key)[1]}: the stored file is missing.")
        return found
