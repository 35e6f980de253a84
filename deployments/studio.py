"""Studio: decodes, crops, pastes back and encodes one segment. Full frames exist only here."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from ray import serve
from ray.serve.handle import DeploymentHandle

from deployments.runtime.calls import CallBounds, call_stage
from deployments.runtime.replica import GRACE_S, StageReplica, claim_threads, make_decoders, stage_method
from lipwright.config import PipelineConfig
from lipwright.jobs.messages import OutputInfo, RenderedSegment, SegmentRequest, SegmentWatermark, SourceVideo
from lipwright.media.audio_parts import AudioPart
from lipwright.media.decoding.memory_budget import retain_freed_buffers
from lipwright.media.output.backgrounds import fitted_info
from lipwright.media.playback import AfterEnd
from lipwright.media.probe import VideoInfo
from lipwright.rendering.background_opener import BackgroundFitter
from lipwright.rendering.result_writer import ResultWriter
from lipwright.rendering.segment_renderer import SegmentRenderer, SourceOpener
from lipwright.rendering.source_readers import SourceCopier
from lipwright.storage.state import open_files
from lipwright.telemetry.log_context import current_context
from models.engines.catalog import EngineCatalog
from models.engines.patches import FacePatches
from models.engines.protocol import Chunk, EngineClass
from models.engines.registry import ENGINES
from models.mouth.motion import RunningStats


@serve.deployment(graceful_shutdown_timeout_s=GRACE_S)
class Studio(StageReplica):
    """Renders and joins segments; `lipwright.jobs.ports.Stages` describes the methods.

    A call reads nothing but its arguments' files, and writes one encoded file.
    """

    def __init__(
        self,
        config: PipelineConfig,
        face_synthesis: DeploymentHandle[Any],
        engines: Mapping[str, str | EngineClass] = ENGINES,
    ) -> None:
        """Set up decoders and engines; no network is loaded here."""
        super().__init__("Studio", config)
        retain_freed_buffers()
        self._files = open_files(config)
        self._face_synthesis = face_synthesis
        num_threads = claim_threads()
        decoders = make_decoders(config, modules=ResultWriter.MODULES)
        read_timeout_s = config.jobs.call_timeout_s(config.render.chunk_frames)
        open_source = SourceOpener(config, decoders, num_threads, read_timeout_s)
        catalog = EngineCatalog(config, num_threads, engines)
        self._renderer = SegmentRenderer(config, catalog, self._synthesize, self._run, open_source, self._files)
        self._backgrounds = BackgroundFitter(self._files, open_source, num_threads)
        self._copier = SourceCopier(config, self._files, decoders)
        self._results = ResultWriter(config, self._files, decoders)

    @stage_method
    async def copyable_keys(self, source: SourceVideo) -> list[int]:
        return await self._run(lambda token: self._copier.keys(source, token), source.info.num_frames)

    @stage_method
    async def render(self, request: SegmentRequest, out: str, watermark: SegmentWatermark) -> RenderedSegment:
        index, silent_motion = request.source_index, RunningStats()
        if request.is_copy:
            start, stop = int(index[0]), int(index[-1]) + 1
            segment = await self._run(lambda token: self._copier.copy(request.source, start, stop, token), len(index))
        else:
            segment, silent_motion = await self._renderer.render(request, watermark)
        await self._run(lambda token: self._files.put(out, segment), len(index))
        return RenderedSegment(len(segment), hashlib.sha256(segment).hexdigest(), silent_motion)

    @stage_method
    async def fit_background(self, background: SourceVideo, shown: VideoInfo, after_end: AfterEnd, out: str) -> str:
        num_frames = fitted_info(background.info, shown, after_end).num_frames
        return await self._run(
            lambda token: self._backgrounds.fit(background, shown, after_end, out, token), num_frames
        )

    @stage_method
    async def join(
        self,
        segments: Sequence[str],
        speech: Sequence[AudioPart[str]],
        out: str,
        source: SourceVideo,
        output: OutputInfo,
    ) -> None:
        await self._run(
            lambda token: self._results.write(segments, speech, out, source, output, token), output.num_frames
        )

    def _synthesize(self, engine: str, chunk: Chunk) -> asyncio.Future[FacePatches]:
        # Each chunk counts its own attempts: a retried segment says nothing about its chunks.
        context = current_context()._replace(attempt=1)
        call = call_stage(
            "FaceSynthesis",
            context,
            lambda context: self._face_synthesis.synthesize.remote(context, engine, chunk),
            CallBounds.of(self._config.jobs, self._config.render.chunk_frames),
        )
        return asyncio.ensure_future(call)
