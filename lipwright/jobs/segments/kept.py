"""What revisions reuse of finished jobs, within `jobs.max_revision_bytes`: segments, and plans of blocks."""

from __future__ import annotations

import asyncio
import io
import logging
import math
import pickle
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import is_dataclass
from datetime import datetime
from enum import Enum
from threading import Lock
from typing import Any, Final, NamedTuple

from lipwright.errors import StoredFileError
from lipwright.jobs.messages import BlockRequest, PreparedSpeech, ShownBlock
from lipwright.jobs.model.record import JobStatus
from lipwright.jobs.segments.identity import code_revision, digest
from lipwright.storage.file_keys import plan_key
from lipwright.storage.file_store import FileStore
from lipwright.storage.files import StoredFiles
from lipwright.storage.job_table import JobTable
from models.speech.level import open_speech

logger = logging.getLogger(__name__)


class _Segments(NamedTuple):
    ended_at: datetime
    num_bytes: int


class KeptSegments:
    """Bounds the segments of finished jobs. Methods block on the disk.

    A hard link counts in full, although it takes space only once.
    """

    def __init__(self, max_bytes: int, table: JobTable, files: FileStore) -> None:
        self._max_bytes, self._table, self._files = max_bytes, table, files
        self._kept: dict[str, _Segments] = {}  # of finished jobs; measured once, as in a bucket that costs requests
        self._lock = Lock()

    def sweep(self) -> None:
        """Delete segments until the rest fits, starting with those of the job that ended first."""
        with self._lock:
            self._measure()
            total = sum(each.num_bytes for each in self._kept.values())
            for job_id in self._oldest_first():
                if total <= self._max_bytes:
                    return
                total -= self._delete(job_id)

    def evict_oldest(self) -> bool:
        """Delete the segments of the job that ended first; return whether there were any."""
        with self._lock:
            self._measure()
            oldest = next((job_id for job_id in self._oldest_first() if self._kept[job_id].num_bytes), None)
            return oldest is not None and self._delete(oldest) > 0

    def _measure(self) -> None:
        job_ids = self._files.job_ids()
        self._kept = {job_id: self._kept[job_id] for job_id in job_ids if job_id in self._kept}
        for job_id in job_ids:
            job = None if job_id in self._kept else self._table.known_job(job_id)
            if job is None or job.finished_at is None:
                continue
            if job.status is JobStatus.SUCCEEDED:
                self._kept[job_id] = _Segments(job.finished_at, self._files.segment_bytes(job_id))
            else:  # they could not be deleted when the job ended
                self._delete_segments(job_id)
                self._kept[job_id] = _Segments(job.finished_at, 0)

    def _oldest_first(self) -> list[str]:
        return sorted(self._kept, key=lambda job_id: self._kept[job_id].ended_at)

    def _delete(self, job_id: str) -> int:
        ended_at, num_bytes = self._kept[job_id]
        self._delete_segments(job_id)
        self._kept[job_id] = _Segments(ended_at, 0)
        if num_bytes:
            logger.info("deleted the segments of job %s, %d bytes; a revision renders it completely", job_id, num_bytes)
        return num_bytes

    def _delete_segments(self, job_id: str) -> None:
        self._files.delete_segments(job_id)
        self._table.record_stored_bytes(job_id, self._files.job_bytes(job_id))


_SAMPLE_RATE: Final = 16_000
_CLASSES: Final = ("models.", "lipwright.jobs.messages", "lipwright.media.")
_ARRAYS: Final = {
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy.core.multiarray", "scalar"),
    ("numpy._core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "scalar"),
    ("numpy._core.numeric", "_frombuffer"),
    ("numpy.core.numeric", "_frombuffer"),
}

PlanBlock = Callable[[], Coroutine[Any, Any, ShownBlock]]


class PlanCache:
    """The plans of one job, and of the jobs that it revises.

    Args:
        files: Where they are stored.
        job_ids: The job, and the jobs that it revises.
        engine: Fingerprint of the engine, which decides a plan, too.
        context_seconds: How much speech before and after a block may decide its plan; None if that is not known, so
            that nothing is cached.
    """

    def __init__(self, files: StoredFiles, job_ids: list[str], engine: str, context_seconds: float | None) -> None:
        self._files, self._job_ids = files, job_ids
        self._engine, self._context_seconds = engine, context_seconds

    async def plan(self, speech: PreparedSpeech, request: BlockRequest, state: object, plan: PlanBlock) -> ShownBlock:
        """Return the plan of a block: a stored one that was made from the same input, or what `plan` returns."""
        if self._context_seconds is None:
            return await plan()
        try:
            name = await asyncio.to_thread(self._name, speech, request, state, self._context_seconds)
        except TypeError:  # the state of an engine of another package
            return await plan()
        if (known := await asyncio.to_thread(self._find, name)) is not None:
            return known
        planned = await plan()
        await asyncio.to_thread(self._files.put, plan_key(self._job_ids[0], name), pickle.dumps(planned))
        return planned

    def _name(self, speech: PreparedSpeech, request: BlockRequest, state: object, context_seconds: float) -> str:
        """Return a digest of everything that decides the plan of a block."""
        with self._files.fetched(speech.key) as path:
            samples = open_speech(path)
            start = max(0, math.floor((request.span.start_seconds - context_seconds) * _SAMPLE_RATE))
            context = samples[start : math.ceil((request.span.stop_seconds + context_seconds) * _SAMPLE_RATE)]
            level = speech.level.gain, speech.level.speech_db
            return digest(code_revision(), self._engine, request, state, level, context)[:32]

    def _find(self, name: str) -> ShownBlock | None:
        for number, job_id in enumerate(self._job_ids):
            key = plan_key(job_id, name)
            if (found := self._files.find(key)) is None:
                continue
            try:
                content = self._files.read(key, 0, found.num_bytes, found.tag)
                planned = _PlanReader(io.BytesIO(content)).load()
            except StoredFileError:  # deleted in the meantime
                continue
            except Exception as error:  # a damaged pickle raises nearly anything
                logger.warning("%s: the stored plan is damaged and is made again: %s", key, error)
                continue
            if isinstance(planned, ShownBlock):
                if number:
                    with suppress(StoredFileError):  # deleted in the meantime
                        self._files.copy(key, plan_key(self._job_ids[0], name))
                return planned
        return None


class _PlanReader(pickle.Unpickler):
    """Reads plans and nothing else: it creates arrays, dataclasses, named tuples and enums, and calls no function."""

    def find_class(self, module: str, name: str) -> Any:
        found = super().find_class(module, name) if module.startswith(_CLASSES) or (module, name) in _ARRAYS else None
        is_record = isinstance(found, type) and (is_dataclass(found) or issubclass(found, tuple | Enum))
        if found is None or not (is_record or (module, name) in _ARRAYS):
            raise pickle.UnpicklingError(f"a plan contains no {module}.{name}")
        return found
