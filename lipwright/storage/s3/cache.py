"""The local cache of a bucket, shared by all processes of a machine and bounded in bytes and in age.

files/{hash of key and tag}/{file name}    fetched files; new content has a new tag, and so a new path
folders/{hash of its files}/whole/...      folders, of hard links to these
known/{hash of key}                        the tag of a file that never changes, so that it needs no request
parts/                                     files that are being written
"""

from __future__ import annotations

import hashlib
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from lipwright.storage.file_keys import is_constant, split
from lipwright.storage.local.folder import disk_errors, make_private_folder, write_atomic
from lipwright.storage.s3.cache_entries import COMPLETE, CacheEntry, evict, open_entry, open_existing_entry

logger = logging.getLogger(__name__)

_MAX_WAIT_S: Final = 600.0  # for a file that another process fetches
_SWEEP_S: Final = 60.0
_MAX_CONCURRENT: Final = 8
_SWEPT_SHARE: Final = 32
"""A process sweeps after fetching one part in so many of `max_bytes`; the cache may exceed it by as much."""
_PART_AGE_S: Final = 24 * 3600.0  # longer than any upload or job; its writer is gone


@dataclass(frozen=True)
class CacheBounds:
    """Limits of the cache: bytes of all entries that are not in use, and seconds until an unused entry is evicted.

    Deleted files leave all machines within that time.
    """

    max_bytes: int
    max_idle_s: float


class FileCache:
    """The cache of one machine, as one process sees it."""

    def __init__(self, folder: Path, bounds: CacheBounds) -> None:
        self._folder, self._bounds = folder.resolve(), bounds
        with disk_errors():
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            for name in ("files", "folders", "known", "parts"):
                make_private_folder(self._folder / name)
        self._sweeper: threading.Thread | None = None
        self._num_new_bytes = 0

    def file(self, key: str, tag: str, fetch: Callable[[Path], None]) -> CacheEntry:
        """Return a file in use; `fetch` writes it to a path if it is not cached.

        Raises:
            StorageFullError: The local disk is full.
            StorageUnreachableError: Another process did not fetch it in time.
            Exception: Whatever `fetch` raised.
        """
        with disk_errors():
            entry = open_entry(self._entry_path(key, tag), split(key)[1], self._with_sweep(fetch), _MAX_WAIT_S)
            if is_constant(key):
                self._remember_tag(key, tag)
        return entry

    def constant(self, key: str) -> CacheEntry | None:
        """Return a file in use that never changes, if it is cached."""
        try:
            tag = self._tag_path(key).read_text()
        except FileNotFoundError:
            return None
        return open_existing_entry(self._entry_path(key, tag), split(key)[1])

    def keep(self, path: Path, key: str, tag: str) -> None:
        """Cache a file that was just uploaded, because this machine is likely to read it."""

        def move(target: Path) -> None:
            path.rename(target)

        self.file(key, tag, move).close()

    def keep_link(self, path: Path, key: str, tag: str) -> None:
        """Make a cached file available under another key as well."""
        self.file(key, tag, lambda target: os.link(path, target)).close()

    def folder(self, files: Mapping[str, tuple[str, str, Callable[[Path], None]]]) -> CacheEntry:
        """Return a folder in use, made of files: key, tag and `fetch` of each, by its path in the folder."""
        text = "\n".join(f"{name}\t{key}\t{tag}" for name, (key, tag, _) in sorted(files.items()))

        def make(target: Path) -> None:
            target.mkdir(mode=0o700)

            def link(name: str) -> None:
                (target / name).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                with closing(self.file(*files[name])) as entry:
                    os.link(entry.path, target / name)

            with ThreadPoolExecutor(_MAX_CONCURRENT) as pool:
                list(pool.map(link, files))

        with disk_errors():
            return open_entry(self._folder / "folders" / _hash(text), COMPLETE, make, _MAX_WAIT_S)

    @contextmanager
    def part(self) -> Iterator[Path]:
        """Provide a folder to write in, removed after the block."""
        with disk_errors(), TemporaryDirectory(dir=self._folder / "parts") as folder:
            yield Path(folder)

    def staging_path(self, name: str) -> Path:
        """Return the path at which a file is written in pieces."""
        return self._folder / "parts" / name

    def sweep(self) -> None:
        """Evict unused entries: those that are too old, then, beyond `max_bytes`, the least recently used."""
        now, total, entries = time.time(), 0, []
        for kind in ("files", "folders"):
            for entry in os.scandir(self._folder / kind):
                with suppress(FileNotFoundError):
                    num_bytes = _num_bytes(Path(entry.path))
                    entries.append((entry.stat().st_mtime, num_bytes, Path(entry.path)))
                    total += num_bytes
        for used_at, num_bytes, path in sorted(entries):
            if total <= self._bounds.max_bytes and now - used_at < self._bounds.max_idle_s:
                break
            if evict(path, self._folder / "parts"):
                total -= num_bytes
        if total > self._bounds.max_bytes:
            logger.warning("cache entries in use take %d bytes, more than bucket.max_cache_bytes", total)
        for left in (*os.scandir(self._folder / "parts"), *os.scandir(self._folder / "known")):
            with suppress(OSError):
                if now - left.stat().st_mtime > max(_PART_AGE_S, self._bounds.max_idle_s):
                    evict(Path(left.path), self._folder / "parts") if left.is_dir() else os.unlink(left.path)

    def start_sweeper(self) -> None:
        """Start sweeping periodically, in a daemon thread."""
        if self._sweeper is None:
            self._sweeper = threading.Thread(target=self._sweep_periodically, name="file-cache", daemon=True)
            self._sweeper.start()

    def _sweep_periodically(self) -> None:
        while True:
            time.sleep(min(_SWEEP_S, self._bounds.max_idle_s / 4))
            try:
                self.sweep()
            except OSError as error:
                logger.warning("could not sweep the file cache; will retry: %s", error)

    def _with_sweep(self, fetch: Callable[[Path], None]) -> Callable[[Path], None]:
        def fetch_and_sweep(target: Path) -> None:
            fetch(target)
            self._num_new_bytes += target.stat().st_size
            if self._num_new_bytes > self._bounds.max_bytes // _SWEPT_SHARE:
                self._num_new_bytes = 0
                self.sweep()

        return fetch_and_sweep

    def _remember_tag(self, key: str, tag: str) -> None:
        if not self._tag_path(key).exists():
            write_atomic(self._tag_path(key), tag.encode())

    def _tag_path(self, key: str) -> Path:
        return self._folder / "known" / _hash(key)

    def _entry_path(self, key: str, tag: str) -> Path:
        return self._folder / "files" / _hash(f"{key}\n{tag}")


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _num_bytes(folder: Path) -> int:
    """Return the bytes of a folder; a file with several links counts by its share."""
    total = 0.0
    for place, _, names in os.walk(folder):
        for name in names:
            state = os.stat(os.path.join(place, name))
            total += state.st_size / state.st_nlink
    return round(total)
