"""Studio: decodes, cuts, pastes back and encodes one segment; the only place where full frames live."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from ray import serve
from ray.serve.handle import DeploymentHandle

from config import PipelineConfig
from deployments.runtime.calls import CallBounds, Sent, call_stage
from deployments.runtime.ray_internals import prefer_local_replicas
from deployments.runtime.replica import CallGate, Threads, claim_threads, stage_method
from jobs.messages import AvatarRef, OutputInfo, RenderedSegment, SegmentWatermark, SourceVideo
from media.cancel_token import CancelToken
from media.concat import concat_segments
from media.decoding.decoder import Decoders
from media.decoding.decoder_reader import DecoderReader, FrameSettings
from media.decoding.malloc_tuning import retain_freed_buffers
from media.frame_source import FrameSource
from media.labels.labeller import Labeller
from media.labels.watermark import Watermark, WatermarkStyle
from media.probe import VideoInfo
from media.writer import SegmentWriter
from media.yuv_frame import Patch, YuvFrame
from models.avatar.avatar import Avatar
from models.engines.catalog import EngineCatalog
from models.engines.patches import FacePatches
from models.engines.protocol import Chunk, Engine, EngineClass, Plan
from models.engines.registry import ENGINES
from models.mouth.motion import RunningStats
from rendering.avatar_cache import AvatarCache, CachedAvatar, close
from rendering.lru_pool import LruPool
from rendering.segment_renderer import RenderSource, SegmentRenderer
from storage.file_keys import split
from storage.local.disk import disk_errors
from storage.state import open_files
from telemetry import metrics
from telemetry.log_context import CallContext, current_context

T = TypeVar("T")

_MAX_IDLE_READERS = 2


class _Marked:
    """A writer that puts each frame's mark on it."""

    def __init__(self, writer: SegmentWriter, marks: Sequence[Watermark | None]) -> None:
        self._writer, self._marks = writer, iter(marks)

    def write(self, planes: YuvFrame, patch: Patch | None = None) -> None:
        self._writer.write(planes, patch, next(self._marks))


@serve.deployment
class Studio:
    """Renders segments. A call reads nothing but the avatar and its source, and writes one encoded file."""

    def __init__(
        self,
        config: PipelineConfig,
        face_synthesis: DeploymentHandle[Any],
        engines: Mapping[str, str | EngineClass] = ENGINES,
    ) -> None:
        """Hold the handle of the next stage; open sources are kept so that the next segment decodes on."""
        retain_freed_buffers()
        self._config = config
        self._files = open_files(config)
        self._face_synthesis = prefer_local_replicas(face_synthesis)
        self._num_threads = claim_threads()
        self._threads = Threads("Studio")
        self._gate = CallGate(self._threads)
        self._decoders = Decoders(config.decoder, metrics.decoder_died)
        self._decoders.warm()
        self._readers: LruPool[tuple[str, int], FrameSource] = LruPool(_MAX_IDLE_READERS, lambda frames: frames.close())
        self._avatars = AvatarCache(self._files)
        self._engines = EngineCatalog(config, self._num_threads, engines)
        self._renderer = SegmentRenderer(self._synthesize, self._run, config.render.chunk_window)
        self._labeller = Labeller(config.labels, config.data_dir)

    @stage_method
    async def render(
        self, avatar: AvatarRef, engine: str, plan: Plan, out: str, watermark: SegmentWatermark
    ) -> RenderedSegment:
        """Render one segment, the frames of `plan` with the faces of `engine`, into a file.

        Crops travel to FaceSynthesis in a window of un-awaited calls; while one chunk waits for its faces or is
        encoded, the next is decoded. Patches are pasted back in order.

        Args:
            avatar: Who speaks.
            engine: Name of the engine.
            plan: The engine's own.
            out: Key of the encoded segment, written whole or not at all.
            watermark: Which of its frames carry the visible mark, and where.

        Raises:
            StorageFullError: The disk has no room for it.
        """
        source = avatar.source
        with ExitStack() as files, ExitStack() as undone:
            made, known, path = await self._run(partial(self._brought, avatar, engine, files), len(plan))
            undone.callback(close, known)
            places = known.avatar.places(plan.source_index)
            key = (source.key, places[0])
            reader = self._readers.take(key, lambda: self._open(path, source.info, known.avatar))
            undone.callback(reader.close)
            render_source = RenderSource(reader, engine, partial(made.cut, known.avatar))
            marks = self._marks(source.info, watermark, len(plan))
            segment, silent_motion = await self._encoded(render_source, source.info, plan, marks)
            await self._run(lambda token: self._files.put(out, segment), len(plan))
            undone.pop_all()
        self._readers.put((source.key, _next_place(places)), reader)
        self._avatars.put(known)
        return RenderedSegment(len(segment), hashlib.sha256(segment).hexdigest(), silent_motion)

    @stage_method
    async def join(
        self, segments: Sequence[str], audio: str, out: str, source: SourceVideo, output: OutputInfo
    ) -> None:
        """Join finished segments by packet copy, add the caller's sound, and label the whole.

        Args:
            segments: Keys of the segments, in one folder and in order.
            audio: Key of the caller's sound.
            out: Key of the result.
            source: The avatar's video.
            output: What the segments are together.

        Raises:
            LabelError: It cannot be signed. Nothing is written: an unlabelled result is not given out.
        """
        folder, names = split(segments[0])[0], [split(segment)[1] for segment in segments]
        timeout_s = self._config.jobs.call_timeout_s(output.num_frames)
        tags, limits = self._labeller.tags(output.produce_id), self._config.limits

        def work(token: CancelToken) -> None:
            with (
                self._files.fetched_folder(folder, names) as rendered,
                self._files.fetched(audio) as sound,
                self._files.written(out) as part,
            ):
                paths = [rendered / name for name in names]
                join = partial(concat_segments, paths, sound, part, source.info, output.num_frames, limits, tags)
                self._decoders.run(
                    join, file=sound, timeout_s=timeout_s, token=token, reads=[rendered], writes=part.parent
                )
                with disk_errors():
                    self._labeller.sign(part, from_still=source.info.is_still)

        await self._threads.run(work, timeout_s)

    async def ready(self) -> bool:
        """True once the replica runs."""
        return True

    async def check_health(self) -> None:
        """Fail while work hangs; Serve then replaces the replica."""
        self._threads.check()

    async def _encoded(
        self, render_source: RenderSource, info: VideoInfo, plan: Plan, marks: Sequence[Watermark | None]
    ) -> tuple[bytes, RunningStats]:
        """The frames of `plan`, decoded, with their faces, encoded; and what was measured of these."""
        render = self._config.render
        writer = SegmentWriter(info, render.crf, render.preset, num_threads=render.encoder_threads)
        motion = await self._renderer.render(render_source, plan, _Marked(writer, marks), self._chunk_frames(info))
        return await self._run(lambda token: writer.finish(), len(plan)), motion

    def _brought(
        self, avatar: AvatarRef, engine: str, files: ExitStack, token: CancelToken
    ) -> tuple[Engine, CachedAvatar, Path]:
        """The engine, the avatar, and its source, which is on this machine until `files` end."""
        path, made = files.enter_context(self._files.fetched(avatar.source.key)), self._engines.engine(engine)
        return made, self._avatars.take(avatar.folder, made), path

    def _open(self, path: Path, info: VideoInfo, avatar: Avatar) -> FrameSource:
        timeout_s = self._config.jobs.call_timeout_s(self._config.render.chunk_frames)
        settings = FrameSettings.of(self._config, self._num_threads, timeout_s)
        return avatar.frames(DecoderReader(self._decoders, path, info, settings))

    def _marks(self, info: VideoInfo, watermark: SegmentWatermark, num_frames: int) -> list[Watermark | None]:
        """The mark of each frame of a segment."""
        if not watermark.corners:
            return [None] * num_frames
        labels = self._config.labels
        mark = Watermark(info, WatermarkStyle(labels.visible_language, labels.visible_height), watermark.corners)
        num_marked = num_frames if watermark.num_frames is None else min(watermark.num_frames, num_frames)
        return [mark] * num_marked + [None] * (num_frames - num_marked)

    def _chunk_frames(self, info: VideoInfo) -> int:
        render, frame_bytes = self._config.render, info.width * info.height * 3 // 2
        return max(4, min(render.chunk_frames, render.max_chunk_bytes // frame_bytes))

    async def _run(self, work: Callable[[CancelToken], T], num_frames: int) -> T:
        return await self._threads.run(work, self._config.jobs.call_timeout_s(num_frames))

    def _synthesize(self, engine: str, faces: Chunk) -> asyncio.Future[FacePatches]:
        bounds = CallBounds.of(self._config.jobs, self._config.render.chunk_frames)

        def start(context: CallContext) -> Sent:
            return self._face_synthesis.synthesize.remote(work, engine, faces)

        # Tries are counted for each chunk: that this segment is tried again says nothing of its chunks.
        work = current_context()._replace(attempt=1)
        return asyncio.ensure_future(call_stage("FaceSynthesis", work, start, bounds))


def _next_place(places: Sequence[int]) -> int:
    """Where a reader goes on after these, in the direction in which they end."""
    before, last = places[-2:][0], places[-1]
    return last + (1 if last >= before else -1)
