"""The rendered segments of one job. Each is recorded with its hash and how it was encoded.

It is reused while its file matches and the encoder has the same settings: otherwise it may not fit the new segments.
"""

from __future__ import annotations

from collections.abc import Sequence

from config import RenderConfig
from errors import StoredFileError
from jobs.messages import RenderedSegment
from jobs.model.record import JobRecord
from jobs.segments.plan import Block, Segment
from models.mouth.motion import RunningStats
from storage.file_keys import segment_key
from storage.file_store import FileStore
from storage.job_table import JobTable
from storage.records import SegmentRecord, SegmentStatus


class FinishedSegments:
    """Reads and writes the segment rows of one job; methods that read files block on the disk."""

    def __init__(self, render: RenderConfig, table: JobTable, files: FileStore, job: JobRecord) -> None:
        self._table, self._files = table, files
        self._job_id, self._suffix = job.id, job.format
        self._encoding = f"{render.encoder} {render.preset} {render.crf}"
        self._silent_motion: dict[int, RunningStats] = {}  # by segment number, because a segment may be rendered twice

    @property
    def silent_motion(self) -> RunningStats:
        """Mouth motion in silence, over all segments that this run recorded."""
        return sum(self._silent_motion.values(), RunningStats())

    def record(self, segment: Segment, rendered: RenderedSegment) -> None:
        """Record a rendered segment."""
        self._silent_motion[segment.number] = rendered.silent_motion
        self._table.record_segment(
            SegmentRecord(
                job_id=self._job_id,
                number=segment.number,
                start=segment.start,
                stop=segment.stop,
                status=SegmentStatus.DONE,
                num_bytes=rendered.num_bytes,
                sha256=rendered.sha256,
                encoding=self._encoding,
            )
        )

    def intact(self, blocks: Sequence[Block]) -> dict[int, SegmentRecord]:
        """Return the segments of this or an earlier run that fit the plan and whose files are intact, by number."""
        planned = {segment.number: segment for block in blocks for segment in block.segments}
        fitting: list[SegmentRecord] = []
        for record in self._recorded():
            plan = planned.get(record.number)
            if plan is not None and (plan.start, plan.stop) == (record.start, record.stop):
                fitting.append(record)
        return self._intact(fitting)

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
