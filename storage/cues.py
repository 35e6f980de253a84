"""Spoken texts: in the folder of a job, and cached for later jobs of the same caller.

Each is a file with the bytes that the voice returned, and a record beside it, which is written last.
"""

from __future__ import annotations

import logging
import time
from collections import defaultdict
from typing import Final

from pydantic import ValidationError

from config import PipelineConfig
from errors import StoredFileError
from jobs.model.files import Frozen
from storage.file_keys import CUES, cue_key, cues_folder
from storage.files import StoredFiles

logger = logging.getLogger(__name__)

_RECORD: Final = ".json"


class CueRecord(Frozen):
    """What is known of a spoken text.

    Attributes:
        sha256: SHA-256 of the file, hexadecimal.
        num_bytes: Its size.
        seconds: Duration of the speech at its own speed, without the silence before and after it.
    """

    sha256: str
    num_bytes: int
    seconds: float


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

    def find(self, key: str) -> CueRecord | None:
        """Return the record of a spoken text whose file is intact; None if there is none."""
        record = self.record(key)
        return record if record is not None and self._files.intact({key: record.sha256}) else None

    def record(self, key: str) -> CueRecord | None:
        """Return the record of a spoken text, if there is one."""
        record_key = key + _RECORD
        if (state := self._files.find(record_key)) is None:
            return None
        try:
            return CueRecord.model_validate_json(self._files.read(record_key, 0, state.num_bytes, state.tag))
        except (StoredFileError, ValidationError):  # removed in the meantime, or damaged
            return None

    def take(self, owner: str | None, digest: str, folder: str) -> CueRecord | None:
        """Return the record of a text that is in `folder`, where it is copied from the cache; None if it is in neither.

        A damaged entry of the cache is removed.
        """
        if (record := self.find(cue_key(folder, digest))) is not None:
            return record
        cached = cue_key(cues_folder(owner), digest)
        if (record := self.find(cached)) is None:
            self._remove(cached)
            return None
        try:
            self.copy(cached, cue_key(folder, digest), record)
        except StoredFileError:  # evicted in the meantime
            return None
        self._files.touch(cached)
        return record

    def add(self, upload: str, record: CueRecord, owner: str | None, digest: str, folder: str) -> None:
        """Move a new file, by its key, to `folder`, and add it to the cache."""
        key = cue_key(folder, digest)
        self._files.move(upload, key)
        self._put(key, record)
        if self._max_cache_bytes:
            self._files.make_folder(cues_folder(owner))
            self.copy(key, cue_key(cues_folder(owner), digest), record)

    def copy(self, key: str, target: str, record: CueRecord) -> None:
        """Copy a spoken text to another key; StoredFileError if it does not exist."""
        self._files.copy(key, target)
        self._put(target, record)

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

    def _put(self, key: str, record: CueRecord) -> None:
        self._files.put(key + _RECORD, record.model_dump_json().encode())

    def _remove(self, key: str) -> None:
        for each in (key + _RECORD, key):
            self._files.remove(each)


def open_cues(config: PipelineConfig, files: StoredFiles) -> CueStore:
    """Return the spoken texts of a service, with its limits."""
    return CueStore(files, config.tts.max_cache_bytes, config.jobs.retention_s)
