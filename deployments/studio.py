"""Studio: decodes, crops, pastes back and encodes one segment. Full frames exist only here."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from ray import serve
from ray.serve.handle import DeploymentHandle

from config import PipelineConfig
from deployments.runtime.calls import CallBounds, Sent, call_stage
from deployments.runtime.ray_internals import prefer_local_replicas
from deployments.runtime.replica import CallGate, Threads, claim_threads, stage_method
from jobs.messages import AvatarRef, OutputInfo, RenderedSegment, SegmentWatermark, SourceVideo
from media.cancel_token import CancelToken
from media.decoding.decoder import Decoders
from media.decoding.malloc_tuning import retain_freed_buffers
from models.engines.catalog import EngineCatalog
from models.engines.patches import FacePatches
from models.engines.protocol import Chunk, EngineClass, Plan
from models.engines.registry import ENGINES
from rendering.result_writer import ResultWriter
from rendering.segment_renderer import SegmentRenderer, SourceOpener
from storage.state import open_files
from telemetry import metrics
from telemetry.log_context import CallContext, current_context

T = TypeVar("T")


@serve.deployment
class Studio:
    """Renders and joins segments. A call reads nothing but its arguments' files, and writes one encoded file."""

    def __init__(
        self,
        config: PipelineConfig,
        face_synthesis: DeploymentHandle[Any],
        engines: Mapping[str, str | EngineClass] = ENGINES,
    ) -> None:
        """Set up decoders and engines; no network is loaded here."""
        retain_freed_buffers()
        self._config = config
        self._files = open_files(config)
        self._face_synthesis = prefer_local_replicas(face_synthesis)
        num_threads = claim_threads()
        self._threads = Threads("Studio")
        self._gate = CallGate(self._threads)
        decoders = Decoders(config.decoder, metrics.decoder_died)
        decoders.warm()
        read_timeout_s = config.jobs.call_timeout_s(config.render.chunk_frames)
        self._renderer = SegmentRenderer(
            config,
            EngineCatalog(config, num_threads, engines),
            self._synthesize,
            self._run,
            SourceOpener(config, decoders, num_threads, read_timeout_s),
            self._files,
        )
        self._results = ResultWriter(config, self._files, decoders)

    @stage_method
    async def render(
        self, avatar: AvatarRef, engine: str, plan: Plan, out: str, watermark: SegmentWatermark
    ) -> RenderedSegment:
        """Render one segment, the frames of `plan` with the faces of `engine`, into a file.

        Crops are sent to FaceSynthesis in a window of un-awaited calls: while one chunk waits for its faces or is
        encoded, the next one is decoded. Patches are pasted back in order.

        Args:
            avatar: The avatar that speaks.
            engine: Name of the engine.
            plan: The engine's plan.
            out: Key of the encoded segment, written completely or not at all.
            watermark: Which frames carry the visible watermark, and where.

        Raises:
            StorageFullError: The disk has no room for the segment.
        """
        segment, silent_motion = await self._renderer.render(avatar, engine, plan, watermark)
        await self._run(lambda token: self._files.put(out, segment), len(plan))
        return RenderedSegment(len(segment), hashlib.sha256(segment).hexdigest(), silent_motion)

    @stage_method
    async def join(
        self, segments: Sequence[str], audio: str, out: str, source: SourceVideo, output: OutputInfo
    ) -> None:
        """Join finished segments, add the caller's audio and label the result; see `ResultWriter.write`."""
        await self._run(
            lambda token: self._results.write(segments, audio, out, source, output, token), output.num_frames
        )

    async def ready(self) -> bool:
        """Return True once the replica runs."""
        return True

    async def check_health(self) -> None:
        """Raise while work hangs; Serve then replaces the replica."""
        self._threads.check()

    async def _run(self, work: Callable[[CancelToken], T], num_frames: int) -> T:
        return await self._threads.run(work, self._config.jobs.call_timeout_s(num_frames))

    def _synthesize(self, engine: str, chunk: Chunk) -> asyncio.Future[FacePatches]:
        bounds = CallBounds.of(self._config.jobs, self._config.render.chunk_frames)

        def start(context: CallContext) -> Sent:
            return self._face_synthesis.synthesize.remote(context, engine, chunk)

        # Each chunk counts its own attempts: a retried segment says nothing about its chunks.
        context = current_context()._replace(attempt=1)
        return asyncio.ensure_future(call_stage("FaceSynthesis", context, start, bounds))
