"""LRU pools of objects that are slow to open and cheap to keep: open readers, and loaded avatars with their files."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import ExitStack
from typing import Generic, NamedTuple, TypeVar

from errors import StoredFileError
from models.avatar.avatar import Avatar
from models.avatar.folder import AVATAR_FILES, VersionedEngine, analysis_part, is_analysed
from storage.files import StoredFiles

_MAX_AVATARS = 8

K = TypeVar("K")
T = TypeVar("T")


class LruPool(Generic[K, T]):
    """Keeps entries that are not in use, also several of one key; drops the least recently used one. Thread-safe."""

    def __init__(self, max_entries: int, close: Callable[[T], None] = lambda _: None) -> None:
        """Keep at most `max_entries`; call `close` with each dropped entry."""
        self._max_entries = max_entries
        self._close = close
        self._entries: list[tuple[K, T]] = []  # the most recently used one is last
        self._lock = threading.Lock()

    def take(self, key: K, make: Callable[[], T]) -> T:
        """Remove and return the most recent entry of `key`, or make one. Return it with `put`."""
        with self._lock:
            for index in reversed(range(len(self._entries))):
                if self._entries[index][0] == key:
                    return self._entries.pop(index)[1]
        return make()

    def put(self, key: K, entry: T) -> None:
        """Keep `entry` as the most recently used one."""
        with self._lock:
            self._entries.append((key, entry))
            dropped = self._entries[: -self._max_entries]
            del self._entries[: -self._max_entries]
        for _, old in dropped:
            self._close(old)

    def drop(self, matches: Callable[[K], bool]) -> None:
        """Drop the entries whose keys match."""
        with self._lock:
            dropped = [entry for key, entry in self._entries if matches(key)]
            self._entries = [(key, entry) for key, entry in self._entries if not matches(key)]
        for old in dropped:
            self._close(old)


class CachedAvatar(NamedTuple):
    """An avatar with the data of one engine."""

    key: tuple[str, str]  # key of its folder, and the engine's part of the folder
    avatar: Avatar  # the avatar; engines load their data of it on first use
    files: ExitStack  # keeps its folder on this machine

    def close(self) -> None:
        """Release the files of the avatar."""
        self.files.close()


class AvatarCache:
    """The most recently used avatars; the files of the engine are verified when one is loaded. Thread-safe."""

    def __init__(self, files: StoredFiles) -> None:
        self._files = files
        self._cached: LruPool[tuple[str, str], CachedAvatar] = LruPool(_MAX_AVATARS, CachedAvatar.close)

    def take(self, folder: str, engine: VersionedEngine) -> CachedAvatar:
        """Return the avatar of a folder for exclusive use; blocks. End with `put` or `CachedAvatar.close`.

        Raises:
            FileNotFoundError: The folder is incomplete or missing.
            StoredFileError: A file of the engine for it is missing or damaged.
        """
        key = folder, analysis_part(engine)
        return self._cached.take(key, lambda: self._load(key, engine))

    def put(self, cached: CachedAvatar) -> None:
        """Return an avatar to the cache."""
        self._cached.put(cached.key, cached)

    def _load(self, key: tuple[str, str], engine: VersionedEngine) -> CachedAvatar:
        with ExitStack() as held:
            folder = held.enter_context(self._files.fetched_folder(key[0], (*AVATAR_FILES, key[1])))
            if not is_analysed(folder, engine):
                raise StoredFileError(f"{key[0]}: the analysis for {engine.name} is missing or damaged.")
            return CachedAvatar(key, Avatar.load(folder), held.pop_all())
