"""Renders the segments of one job, as many at a time as the limiter allows."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace

from lipwright.jobs.face_planner import FacePlanner
from lipwright.jobs.messages import Background, FrameText, SegmentRequest, SegmentWatermark
from lipwright.jobs.model.compute import metered
from lipwright.jobs.model.record import JobRecord
from lipwright.jobs.progress import JobProgress
from lipwright.jobs.segments.finished import FinishedSegments
from lipwright.jobs.segments.identity import segment_identity
from lipwright.jobs.segments.plan import Block, Segment, segment_watermark
from lipwright.jobs.services import JobServices
from lipwright.storage.file_keys import segment_key
from lipwright.telemetry import metrics
from lipwright.telemetry.log_context import CallContext, call_context, current_trace
from lipwright.telemetry.tracing import span


@dataclass(frozen=True)
class SegmentRendering:
    """Renders the segments that are missing.

    Attributes:
        services: What all runs share.
        job: The job.
        finished: Its finished segments.
        progress: Its progress.
        engine: Fingerprint of its engine.
        source_sha256: Hash of its source.
        background: What is behind the person.
        texts: The texts in its picture; see `burnt_texts`.
    """

    services: JobServices
    job: JobRecord
    finished: FinishedSegments
    progress: JobProgress
    engine: str
    source_sha256: str
    background: Background | None
    texts: Sequence[FrameText]

    async def render(self, blocks: Sequence[Block], planner: FacePlanner) -> None:
        """Render every missing segment, or copy the same one of a job that this one revises."""
        job, limiter = self.job, self.services.limiter
        finished = await asyncio.to_thread(self.finished.intact, blocks)
        await self.progress.report_frames(sum(segment.stop - segment.start for segment in finished.values()))
        limiter.num_planned[job.id] = sum(len(block.segments) for block in blocks) - len(finished)
        async with asyncio.TaskGroup() as group, aclosing(planner.plan(blocks)) as plans:
            async for planned in plans:
                num_reused = 0
                for segment in planned.block.segments:
                    if segment.number in finished:
                        continue
                    request = replace(planner.request(planned, segment), background=self.background)
                    watermark = self._watermark(segment, request)
                    identity = await asyncio.to_thread(self._identity, request, watermark)
                    if await asyncio.to_thread(self.finished.reuse, segment, identity):
                        num_reused += segment.stop - segment.start
                        limiter.num_planned[job.id] -= 1
                        continue
                    await limiter.acquire(job.id, job.owner)
                    limiter.num_planned[job.id] -= 1
                    group.create_task(self._render_segment(segment, request, watermark, identity))
                if num_reused:
                    await self.progress.report_frames(num_reused)

    def _watermark(self, segment: Segment, request: SegmentRequest) -> SegmentWatermark:
        job, labels = self.job, self.services.config.labels
        assert request.picture is not None
        return segment_watermark(job.options, segment, request.picture.info.fps, labels, job.watermark_id, self.texts)

    def _identity(self, request: SegmentRequest, watermark: SegmentWatermark) -> str:
        """Return the identity of a segment; empty if it has none because its engine is of another package."""
        config = self.services.config
        try:
            return segment_identity(
                request, watermark, self.engine, self.source_sha256, self.job.plan, config.render, config.labels
            )
        except TypeError:
            return ""

    async def _render_segment(
        self, segment: Segment, request: SegmentRequest, watermark: SegmentWatermark, identity: str
    ) -> None:
        services, job, num_frames = self.services, self.job, segment.stop - segment.start
        assert request.picture is not None
        seconds = float(num_frames / request.picture.info.fps)
        context = CallContext(job.id, segment=segment.number, trace=current_trace())
        with call_context(context), span("segment", frames=num_frames), metered():
            try:
                out = segment_key(job.id, segment.number, job.format)
                rendered = await services.stages.render(context, request, out, watermark)
                await services.table.run_in_thread(self.finished.record, segment, rendered, identity, seconds)
            finally:
                services.limiter.release(job.id)
        metrics.FRAMES.add(num_frames)
        metrics.VIDEO_SECONDS.add(seconds)
        await self.progress.report_frames(num_frames, attempts=0)
