"""Keeps the most recently used avatars loaded, with their files."""

from __future__ import annotations

from contextlib import ExitStack
from typing import NamedTuple

from lipwright.errors import StoredFileError
from lipwright.rendering.lru_pool import LruPool
from lipwright.storage.files import StoredFiles
from models.avatar.avatar import Avatar
from models.avatar.folder import AVATAR_FILES, VersionedEngine, analysis_part, is_analysed

_MAX_AVATARS = 8


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
