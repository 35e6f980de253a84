"""A cache of the avatars that a replica has loaded, with the files that they were loaded from."""

from __future__ import annotations

from contextlib import ExitStack
from typing import NamedTuple

from errors import StoredFileError
from models.avatar.avatar import Avatar
from models.avatar.folder import AVATAR_FILES, VersionedEngine, analysis_part, is_analysed
from rendering.lru_pool import LruPool
from storage.files import StoredFiles

_MAX_ENTRIES = 8


class CachedAvatar(NamedTuple):
    """An avatar with the data of one engine.

    Attributes:
        key: Key of its folder, and the engine's part of the folder.
        avatar: The avatar; engines load their data of it on first use.
        files: Keeps its folder on this machine.
    """

    key: tuple[str, str]
    avatar: Avatar
    files: ExitStack

    def close(self) -> None:
        """Release the files of the avatar."""
        self.files.close()


class AvatarCache:
    """The avatars that were used last; what an engine keeps of one is checked when it is loaded. Thread-safe."""

    def __init__(self, files: StoredFiles) -> None:
        self._files = files
        self._cached: LruPool[tuple[str, str], CachedAvatar] = LruPool(_MAX_ENTRIES, CachedAvatar.close)

    def take(self, folder: str, engine: VersionedEngine) -> CachedAvatar:
        """Return the avatar of a folder for exclusive use; blocks. End with `put` or `CachedAvatar.close`.

        Raises:
            FileNotFoundError: The folder is incomplete or missing.
            StoredFileError: What the engine keeps of it is gone or damaged.
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
