"""Frees disk space for jobs by deleting what is cached."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import ParamSpec, TypeVar

from lipwright.errors import StorageFullError
from lipwright.jobs.segments.kept import KeptSegments
from lipwright.jobs.sources.avatars import Avatars
from lipwright.storage.file_store import FileStore

P = ParamSpec("P")
T = TypeVar("T")


class DiskSpace:
    """Deletes segments of finished jobs, the oldest first, then cached avatars.

    Args:
        files: Where files are stored.
        segments: The segments of finished jobs.
        avatars: The cached avatars.
        min_free_bytes: Disk space that jobs must leave free, in bytes.
    """

    def __init__(self, files: FileStore, segments: KeptSegments, avatars: Avatars, min_free_bytes: int) -> None:
        self._files, self._segments, self._avatars, self._min_free_bytes = files, segments, avatars, min_free_bytes

    async def retrying(self, work: Callable[P, Awaitable[T]], *args: P.args, **kwargs: P.kwargs) -> T:
        """Return the result of `work`, which can be repeated, and is while it finds the disk full."""
        while True:
            try:
                return await work(*args, **kwargs)
            except StorageFullError:
                if not await self._evict_oldest():
                    raise

    async def keep_free(self) -> None:
        """Delete until `min_free_bytes` are free, so that running jobs can continue."""
        while (free_bytes := await asyncio.to_thread(self._files.stored.free_bytes)) is not None:
            if free_bytes >= self._min_free_bytes or not await self._evict_oldest():
                return

    async def _evict_oldest(self) -> bool:
        """Return whether there was anything to delete."""
        return await asyncio.to_thread(self._segments.evict_oldest) or await self._avatars.evict_oldest()
