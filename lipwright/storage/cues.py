"""Spoken texts: in the folder of a job, and cached for later jobs of the same caller.

Each is a file with the bytes that the voice returned, and a record beside it, which is written last.
"""

from __future__ import annotations

import json
import logging
import time
from collections import defaultdict
from typing import Final

from lipwright.config import PipelineConfig
from lipwright.errors import StoredFileError
from lipwright.jobs.model.base import Frozen, UploadedFile
from lipwright.storage.file_keys import CUES, cue_key, cues_folder, upload_key
from lipwright.storage.files import StoredFiles, read_whole

logger = logging.getLogger(__name__)

_RECORD: Final = ".json"


class SpokenCue(Frozen):
    """A spoken text.

    Attributes:
        key: Key of the file, with the bytes that the voice returned.
        sha256: SHA-256 of the file, hexadecimal.
        num_bytes: Its size.
        seconds: Duration of the speech at its own speed, without the silence before and after it.
        closures: Closures of the lips in the file, if the voice tells them; see `lipwright.media.phones`.
    """

    key: str
    sha256: str
    num_bytes: int
    seconds: float
    closures: tuple[tuple[float, float], ...] = ()


class CueStore:
    """The spoken texts of jobs, and the cache. Callers share nothing: what others said cannot be seen or timed.

    Methods block.

    Args:
        files: Where they are stored.
        max_cache_bytes: Bytes of the cache after `sweep`; 0 for no cache.
        max_idle_s: Seconds after which an unused entry of the cache is removed.
    """

    def __init__(self, files: StoredFiles, max_cache_bytes: int, max_idle_s: float) -> None:
        self._files, self._max_cache_bytes, self._max_idle_s = files, max_cache_bytes, max_idle_s

    def find(self, key: str) -> SpokenCue | None:
        """Return a spoken text whose file is intact; None if there is none."""
        cue = self.record(key)
        return cue if cue is not None and self._files.intact({key: cue.sha256}) else None

    def record(self, key: str) -> SpokenCue | None:
        """Return what is recorded of a spoken text, if anything."""
        if (content := read_whole(self._files, key + _RECORD)) is None:
            return None
        try:
            return SpokenCue(key=key, **json.loads(content))
        except (ValueError, TypeError):  # damaged
            return None

    def take(self, owner: str | None, digest: str, folder: str) -> SpokenCue | None:
        """Return the text that is in `folder`, where it is copied from the cache; None if it is in neither.

        A damaged entry of the cache is removed.
        """
        key, cached_key = cue_key(folder, digest), cue_key(cues_folder(owner), digest)
        if (known := self.find(key)) is not None:
            return known
        if (cached := self.find(cached_key)) is None:
            self._remove(cached_key)
            return None
        try:
            copied = self.copy(cached, key)
        except StoredFileError:  # evicted in the meantime
            return None
        self._files.touch(cached_key)
        return copied

    def add(self, upload: UploadedFile, seconds: float, owner: str | None, digest: str, folder: str) -> SpokenCue:
        """Move a new file to `folder`, and add it to the cache."""
        key = cue_key(folder, digest)
        sha256, num_bytes, closures = upload.sha256, upload.num_bytes, upload.closures
        cue = SpokenCue(key=key, sha256=sha256, num_bytes=num_bytes, seconds=seconds, closures=closures)
        self._files.move(upload_key(upload.key), key)
        self._put(cue)
        if self._max_cache_bytes:
            self._files.make_folder(cues_folder(owner))
            self.copy(cue, cue_key(cues_folder(owner), digest))
        return cue

    def copy(self, cue: SpokenCue, key: str) -> SpokenCue:
        """Copy a spoken text to another key; StoredFileError if it does not exist."""
        self._files.copy(cue.key, key)
        copied = cue.model_copy(update={"key": key})
        self._put(copied)
        return copied

    def sweep(self) -> int:
        """Remove entries of the cache that are too old, then the least recently used until it fits; returns how many.

        The bytes of a hard link count in full, although they take space only once.
        """
        num_bytes: dict[str, int] = defaultdict(int)
        used_at: dict[str, float] = defaultdict(float)
        for key, state in self._files.states(CUES).items():
            cue = key.removesuffix(_RECORD)
            num_bytes[cue] += state.num_bytes
            used_at[cue] = max(used_at[cue], state.changed_at)
        total, oldest, num_removed = sum(num_bytes.values()), time.time() - self._max_idle_s, 0
        for cue in sorted(num_bytes, key=lambda cue: used_at[cue]):
            if total <= self._max_cache_bytes and used_at[cue] > oldest:
                break
            self._remove(cue)
            total -= num_bytes[cue]
            num_removed += 1
        if num_removed:
            logger.info("removed %d spoken texts from the cache, %d bytes are left", num_removed, total)
        return num_removed

    def _put(self, cue: SpokenCue) -> None:
        self._files.put(cue.key + _RECORD, cue.model_dump_json(exclude={"key"}).encode())

    def _remove(self, key: str) -> None:
        for each in (key + _RECORD, key):
            self._files.remove(each)


def open_cues(config: PipelineConfig, files: StoredFiles) -> CueStore:
    """Return the spoken texts of a service, with its limits."""
    return CueStore(files, config.tts.max_cache_bytes, config.jobs.retention_s)
