"""Files of a bucket on this machine, for all processes of it: fetched once, bounded in bytes and in age.

files/{hash of key and tag}/{file name}    what was fetched; another content has another tag, and another place
folders/{hash of its files}/whole/...      folders, of links to these
known/{hash of key}                        the tag of a file that never changes: it is found without asking
parts/                                     what is being written
"""

from __future__ import annotations

import hashlib
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from storage.file_keys import is_constant, split
from storage.local.disk import disk_errors, make_private_folder, write_atomic
from storage.s3.leases import WHOLE, Lease, drop, lease_of, leased

logger = logging.getLogger(__name__)

_MAX_WAIT_S: Final = 600.0  # for a file that another process fetches
_SWEEP_S: Final = 60.0
_AT_ONCE: Final = 8
_SWEPT_SHARE: Final = 32
"""One process fetches this part of the bound before it sweeps: the cache may grow so far beyond it."""
_PART_AGE_S: Final = 24 * 3600.0  # longer than any body or any work takes; what wrote it is gone


@dataclass(frozen=True)
class CacheBounds:
    """What is kept on a machine.

    Attributes:
        max_bytes: Of all that is kept and not in use.
        max_idle_s: How long what nobody uses stays: deleted files go from all machines in this time.
    """

    max_bytes: int
    max_idle_s: float


class FileCache:
    """The cache of one machine, seen from one process."""

    def __init__(self, folder: Path, bounds: CacheBounds) -> None:
        self._folder, self._bounds = folder.resolve(), bounds
        with disk_errors():
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            for name in ("files", "folders", "known", "parts"):
                make_private_folder(self._folder / name)
        self._sweeper: threading.Thread | None = None
        self._num_new_bytes = 0

    def file(self, key: str, tag: str, fetch: Callable[[Path], None]) -> Lease:
        """A file in use; `fetch` writes it to a path if it is not here.

        Raises:
            StorageFullError: The disk of this machine is full.
            StorageUnreachableError: Another process has not fetched it in time.
            Exception: Whatever `fetch` raised.
        """
        with disk_errors():
            lease = leased(self._place(key, tag), split(key)[1], self._swept_after(fetch), _MAX_WAIT_S)
            if is_constant(key):
                self._note(key, tag)
        return lease

    def constant(self, key: str) -> Lease | None:
        """A file in use that never changes, if it is here."""
        try:
            tag = self._known(key).read_text()
        except FileNotFoundError:
            return None
        return lease_of(self._place(key, tag), split(key)[1])

    def keep(self, path: Path, key: str, tag: str) -> None:
        """Take over a file that was just written to the bucket: this machine is likely to read it."""

        def move(target: Path) -> None:
            path.rename(target)

        self.file(key, tag, move).close()

    def keep_link(self, path: Path, key: str, tag: str) -> None:
        """Have a file of the cache be found under another key, too."""
        self.file(key, tag, lambda target: os.link(path, target)).close()

    def folder(self, files: Mapping[str, tuple[str, str, Callable[[Path], None]]]) -> Lease:
        """A folder in use, made of files.

        Args:
            files: Key, tag and `fetch` of each, by its path in the folder.
        """
        text = "\n".join(f"{name}\t{key}\t{tag}" for name, (key, tag, _) in sorted(files.items()))

        def make(target: Path) -> None:
            target.mkdir(mode=0o700)

            def link(name: str) -> None:
                (target / name).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                lease = self.file(*files[name])
                try:
                    os.link(lease.path, target / name)
                finally:
                    lease.close()

            with ThreadPoolExecutor(_AT_ONCE) as pool:
                list(pool.map(link, files))

        with disk_errors():
            return leased(self._folder / "folders" / _hash(text), WHOLE, make, _MAX_WAIT_S)

    @contextmanager
    def part(self) -> Iterator[Path]:
        """A folder to write in, gone after the block."""
        with disk_errors(), TemporaryDirectory(dir=self._folder / "parts") as folder:
            yield Path(folder)

    def staging_path(self, name: str) -> Path:
        """Where a file is written bit by bit."""
        return self._folder / "parts" / name

    def sweep(self) -> None:
        """Remove what nobody uses: what is too old, then, beyond the bound, the least recently used."""
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
            if drop(path, self._folder / "parts"):
                total -= num_bytes
        if total > self._bounds.max_bytes:
            logger.warning("files in use take %d bytes, more than the cache may have", total)
        for left in (*os.scandir(self._folder / "parts"), *os.scandir(self._folder / "known")):
            with suppress(OSError):
                if now - left.stat().st_mtime > max(_PART_AGE_S, self._bounds.max_idle_s):
                    drop(Path(left.path), self._folder / "parts") if left.is_dir() else os.unlink(left.path)

    def sweep_for_ever(self) -> None:
        """Sweep now and then from now on, in a thread of its own that ends with the process."""
        if self._sweeper is None:
            self._sweeper = threading.Thread(target=self._sweep_for_ever, name="file-cache", daemon=True)
            self._sweeper.start()

    def _sweep_for_ever(self) -> None:
        while True:
            time.sleep(min(_SWEEP_S, self._bounds.max_idle_s / 4))
            try:
                self.sweep()
            except OSError as error:
                logger.warning("the cache of files cannot be swept at the moment: %s", error)

    def _swept_after(self, fetch: Callable[[Path], None]) -> Callable[[Path], None]:
        def fetch_and_sweep(target: Path) -> None:
            fetch(target)
            self._num_new_bytes += target.stat().st_size
            if self._num_new_bytes > self._bounds.max_bytes // _SWEPT_SHARE:
                self._num_new_bytes = 0
                self.sweep()

        return fetch_and_sweep

    def _note(self, key: str, tag: str) -> None:
        if not self._known(key).exists():
            write_atomic(self._known(key), tag.encode())

    def _known(self, key: str) -> Path:
        return self._folder / "known" / _hash(key)

    def _place(self, key: str, tag: str) -> Path:
        return self._folder / "files" / _hash(f"{key}\n{tag}")


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _num_bytes(folder: Path) -> int:
    """Bytes of a folder; of a file that has several links, its share."""
    total = 0.0
    for place, _, names in os.walk(folder):
        for name in names:
            state = os.stat(os.path.join(place, name))
            total += state.st_size / state.st_nlink
    return round(total)
