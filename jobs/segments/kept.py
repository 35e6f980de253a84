"""The segments of finished jobs, which their revisions reuse, within `jobs.max_revision_bytes`."""

from __future__ import annotations

import logging
from datetime import datetime
from threading import Lock
from typing import NamedTuple

from errors import NotFoundError
from jobs.model.record import JobStatus, JobSummary
from storage.file_store import FileStore
from storage.job_table import JobTable

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
            job = None if job_id in self._kept else self._find(job_id)
            if job is None or job.finished_at is None:
                continue
            if job.status is JobStatus.SUCCEEDED:
                self._kept[job_id] = _Segments(job.finished_at, self._files.segment_bytes(job_id))
            else:  # they could not be deleted when the job ended
                self._files.delete_segments(job_id)
                self._kept[job_id] = _Segments(job.finished_at, 0)

    def _find(self, job_id: str) -> JobSummary | None:
        try:
            return self._table.get_job(job_id)
        except NotFoundError:
            return None

    def _oldest_first(self) -> list[str]:
        return sorted(self._kept, key=lambda job_id: self._kept[job_id].ended_at)

    def _delete(self, job_id: str) -> int:
        ended_at, num_bytes = self._kept[job_id]
        self._files.delete_segments(job_id)
        self._kept[job_id] = _Segments(ended_at, 0)
        if num_bytes:
            logger.info("deleted the segments of job %s, %d bytes; a revision renders it completely", job_id, num_bytes)
        return num_bytes
