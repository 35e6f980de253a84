"""The rendered segments of one job. Each is recorded with its hash, its identity and how it was encoded.

It is reused while its file matches and the encoder has the same settings: otherwise it may not fit the new segments.
Revisions of the job reuse the segments that are the same there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from functools import cached_property
from typing import Final

from lipwright.config import RenderConfig
from lipwright.errors import StoredFileError
from lipwright.jobs.messages import RenderedSegment
from lipwright.jobs.model.record import JobRecord, JobStatus
from lipwright.jobs.segments.plan import Block, Segment
from lipwright.storage.file_keys import segment_key, sound_key
from lipwright.storage.file_store import FileStore
from lipwright.storage.job_table import JobTable
from lipwright.storage.row_codec import SegmentRecord, SegmentStatus
from models.mouth.motion import RunningStats

_MAX_REVISIONS: Final = 16
"""Jobs before a revision in which its segments are searched for."""


class FinishedSegments:
    """Reads and writes the segment rows of one job; methods that read files block on the disk."""

    def __init__(self, render: RenderConfig, table: JobTable, files: FileStore, job: JobRecord) -> None:
        self._table, self._files = table, files
        self._job_id, self._suffix, self._revision_of = job.id, job.format, job.revision_of
        self._encoding = f"{render.encoder} {render.preset} {render.crf}"
        self._silent_motion: dict[int, RunningStats] = {}  # by segment number, because a segment may be rendered twice

    @property
    def silent_motion(self) -> RunningStats:
        """Mouth motion in silence, over all segments."""
        return sum(self._silent_motion.values(), RunningStats())

    @cached_property
    def revised_jobs(self) -> list[str]:
        """The ids of the jobs that this one revises, the latest first."""
        found, job_id = list[str](), self._revision_of
        while job_id is not None and len(found) < _MAX_REVISIONS:
            if (job := self._table.known_job(job_id)) is None:
                break
            if job.status is JobStatus.SUCCEEDED and job.format == self._suffix:
                found.append(job_id)
            job_id = job.revision_of
        return found

    def earlier_sound(self) -> str | None:
        """Return the key of the encoded sound of the latest job that this one revises and that has it."""
        keys = (sound_key(job_id) for job_id in self.revised_jobs)
        return next((key for key in keys if self._files.stored.find(key) is not None), None)

    def record(self, segment: Segment, rendered: RenderedSegment, identity: str, seconds: float) -> None:
        """Record a rendered segment of this length."""
        self._record(
            SegmentRecord(
                job_id=self._job_id,
                number=segment.number,
                start=segment.start,
                stop=segment.stop,
                status=SegmentStatus.DONE,
                num_bytes=rendered.num_bytes,
                sha256=rendered.sha256,
                encoding=self._encoding,
                identity=identity,
                silent_motion=asdict(rendered.silent_motion),
            ),
            seconds,
        )

    def _record(self, record: SegmentRecord, seconds: float = 0.0) -> None:
        self._silent_motion[record.number] = _silent_motion(record)
        self._table.record_segment(record, seconds)

    def reuse(self, segment: Segment, identity: str) -> bool:
        """Copy the same segment of a job that this one revises; return False if there is none that is intact."""
        earlier = self._earlier.get(identity) if identity else None
        if earlier is None:
            return False
        key = segment_key(earlier.job_id, earlier.number, self._suffix)
        if not self._files.stored.intact({key: earlier.sha256}):
            return False
        try:
            self._files.stored.copy(key, segment_key(self._job_id, segment.number, self._suffix))
        except StoredFileError:  # deleted in the meantime
            return False
        place = {"job_id": self._job_id, "number": segment.number, "start": segment.start, "stop": segment.stop}
        self._record(earlier.model_copy(update=place))
        return True

    @cached_property
    def _earlier(self) -> dict[str, SegmentRecord]:
        """The segments of the jobs that this one revises, by identity."""
        found: dict[str, SegmentRecord] = {}
        for job_id in reversed(self.revised_jobs):
            rows = self._table.finished_segments(job_id)
            found |= {row.identity: row for row in rows if row.encoding == self._encoding}
        return found

    def intact(self, blocks: Sequence[Block]) -> dict[int, SegmentRecord]:
        """Return the segments of this or an earlier run that fit the plan and whose files are intact, by number."""
        planned = {segment.number: segment for block in blocks for segment in block.segments}
        fitting: list[SegmentRecord] = []
        for record in self._recorded():
            plan = planned.get(record.number)
            if plan is not None and (plan.start, plan.stop) == (record.start, record.stop):
                fitting.append(record)
        intact = self._intact(fitting)
        for number, record in intact.items():
            self._silent_motion.setdefault(number, _silent_motion(record))
        return intact

    def check(self, blocks: Sequence[Block]) -> None:
        """Raise StoredFileError if a planned segment is missing or damaged."""
        found = self.intact(blocks)
        lost = [segment.number for block in blocks for segment in block.segments if segment.number not in found]
        if lost:
            raise StoredFileError(
                f"Expected {len(found) + len(lost)} segments as they were rendered, found {len(lost)} gone or changed, "
                f"the first of them number {lost[0]}."
            )

    def are_damaged(self) -> bool:
        """Return whether a rendered segment is missing or damaged."""
        recorded = self._recorded()
        return len(self._intact(recorded)) < len(recorded)

    def _recorded(self) -> list[SegmentRecord]:
        finished = self._table.finished_segments(self._job_id)
        return [segment for segment in finished if segment.encoding == self._encoding]

    def _intact(self, records: Sequence[SegmentRecord]) -> dict[int, SegmentRecord]:
        keys = {segment_key(self._job_id, record.number, self._suffix): record for record in records}
        whole = self._files.stored.intact({key: record.sha256 for key, record in keys.items()})
        return {record.number: record for key, record in keys.items() if key in whole}


def _silent_motion(record: SegmentRecord) -> RunningStats:
    motion = record.silent_motion
    return RunningStats(int(motion["num"]), motion["total"], motion["squares"])
