"""The stage and the progress of a running job, in its row, and its end, in metrics and its trace."""

from __future__ import annotations

from lipwright.jobs.job_trace import record_job
from lipwright.jobs.model.record import PROGRESS_AT_START, JobRecord, JobStage, JobSummary
from lipwright.jobs.speaking import SPOKEN_SHARE
from lipwright.storage.job_table import JobTable
from lipwright.telemetry import metrics


class JobProgress:
    """Updates the row of one job."""

    def __init__(self, table: JobTable, job: JobRecord) -> None:
        self._table, self._job_id = table, job.id
        self._spoken_share = SPOKEN_SHARE if job.spec.has_texts else 0.0
        self._num_frames = self._num_done = 0

    async def enter(self, stage: JobStage, **fields: object) -> None:
        """Record the start of a stage, and other fields."""
        if stage in PROGRESS_AT_START:
            fields["progress"] = PROGRESS_AT_START[stage]
        await self.update(stage=stage, **fields)

    async def start_rendering(self, num_frames: int) -> None:
        """Record the start of the rendering of `num_frames`."""
        self._num_frames, self._num_done = num_frames, 0
        await self.enter(JobStage.RENDERING, num_frames=num_frames)

    async def report_analysis(self, share: float) -> None:
        """Record the share of the analyses that is done, 0 to 1."""
        begin, end = PROGRESS_AT_START[JobStage.ANALYSING], PROGRESS_AT_START[JobStage.RENDERING]
        await self.update(progress=begin + (end - begin) * share)

    async def report_frames(self, num_frames: int, **fields: object) -> None:
        """Record that `num_frames` more frames are done, and other fields."""
        self._num_done += num_frames
        begin, end = PROGRESS_AT_START[JobStage.RENDERING], PROGRESS_AT_START[JobStage.MUXING]
        progress = begin + (end - begin) * self._num_done / max(1, self._num_frames)
        await self.update(num_frames_done=self._num_done, progress=progress, **fields)

    async def update(self, **fields: object) -> None:
        """Change fields of the row; `progress` is that of what follows the speaking of texts."""
        if isinstance(progress := fields.get("progress"), float):
            fields["progress"] = self._spoken_share + (1 - self._spoken_share) * progress
        await self._table.run_in_thread(self._table.update_job, self._job_id, **fields)


def record_end(job: JobSummary) -> None:
    """Count a finished job, and record its span."""
    metrics.FINISHED_JOBS.add(1, job.status.value, "none" if job.error is None else job.error.code)
    if job.started_at is not None and job.finished_at is not None and job.reviewed_at is None:
        metrics.JOB_RUN.observe(max(0.0, (job.finished_at - job.started_at).total_seconds()), job.status.value)
    record_job(job)
