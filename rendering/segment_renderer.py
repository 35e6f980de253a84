"""Renders one segment of a job: the frames of a plan, with generated faces, encoded."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from config import PipelineConfig
from jobs.messages import AvatarRef, SegmentWatermark
from media.cancel_token import CancelToken
from media.decoding.decoder import Decoders
from media.decoding.decoder_reader import DecoderReader, FrameSettings
from media.frame_source import FrameSource
from media.labels.watermark import FrameMark
from media.probe import VideoInfo
from media.writer import SegmentWriter
from media.yuv_frame import Patch, YuvFrame
from models.avatar.avatar import Avatar
from models.engines.catalog import EngineCatalog
from models.engines.protocol import Engine, Plan
from models.mouth.motion import RunningStats
from rendering.avatar_cache import AvatarCache, CachedAvatar, LruPool
from rendering.frame_marks import segment_marks
from rendering.frame_pipeline import BlockingWork, FramePipeline, GenerateFaces, RenderSource
from storage.files import StoredFiles


@dataclass(frozen=True)
class SourceOpener:
    """Implements `OpenSource`: opens the frames of an avatar's source in a decoder process."""

    config: PipelineConfig  # the settings of decoders
    decoders: Decoders  # where frames are decoded
    num_threads: int  # threads of one decoder
    timeout_s: float  # limit of one read

    def __call__(self, path: Path, info: VideoInfo, avatar: Avatar) -> FrameSource:
        """Open the frames of `avatar` whose source is at `path`; the caller closes them."""
        settings = FrameSettings.of(self.config, self.num_threads, self.timeout_s)
        return avatar.frames(DecoderReader(self.decoders, path, info, settings))


OpenSource = Callable[[Path, VideoInfo, Avatar], FrameSource]

_MAX_IDLE_READERS = 2
_MIN_CHUNK_FRAMES = 4


class SegmentRenderer:
    """Keeps avatars and open readers between calls, so that the next segment continues where the last one ended."""

    def __init__(
        self,
        config: PipelineConfig,
        engines: EngineCatalog,
        generate: GenerateFaces,
        run: BlockingWork,
        open_source: OpenSource,
        files: StoredFiles,
    ) -> None:
        self._config, self._engines, self._run = config, engines, run
        self._open_source, self._files = open_source, files
        self._pipeline = FramePipeline(generate, run, config.render.chunk_window)
        self._readers: LruPool[tuple[str, int], FrameSource] = LruPool(_MAX_IDLE_READERS, lambda frames: frames.close())
        self._avatars = AvatarCache(files)

    async def render(
        self, avatar: AvatarRef, engine: str, plan: Plan, watermark: SegmentWatermark
    ) -> tuple[bytes, RunningStats]:
        """Return the encoded frames of `plan`, and the mouth's motion in silence measured on their faces."""
        info, render = avatar.source.info, self._config.render
        async with self._source(avatar, engine, plan) as source:
            encoder = SegmentWriter(info, render.crf, render.preset, num_threads=render.encoder_threads)
            writer = _WatermarkWriter(encoder, segment_marks(info, watermark, len(plan), self._config.labels))
            motion = await self._pipeline.render(source, plan, writer, self._chunk_frames(info))
            return await self._run(lambda token: encoder.finish(), len(plan)), motion

    @asynccontextmanager
    async def _source(self, ref: AvatarRef, name: str, plan: Plan) -> AsyncIterator[RenderSource]:
        """Lend the avatar's frames for the block. They are kept for the next segment, or closed if the block fails."""
        source = ref.source
        with ExitStack() as fetched, ExitStack() as on_error:
            engine, cached, path = await self._run(partial(self._fetch, ref, name, fetched), len(plan))
            on_error.callback(cached.close)
            positions = cached.avatar.places(plan.source_index)
            key = (source.key, positions[0])
            reader = self._readers.take(key, lambda: self._open_source(path, source.info, cached.avatar))
            on_error.callback(reader.close)
            yield RenderSource(reader, name, partial(engine.cut, cached.avatar))
            on_error.pop_all()
        self._readers.put((source.key, _next_position(positions)), reader)
        self._avatars.put(cached)

    def _fetch(
        self, ref: AvatarRef, name: str, fetched: ExitStack, token: CancelToken
    ) -> tuple[Engine, CachedAvatar, Path]:
        """Return the engine, the avatar, and the path of its source, valid until `fetched` is closed."""
        path = fetched.enter_context(self._files.fetched(ref.source.key))
        engine = self._engines.engine(name)
        return engine, self._avatars.take(ref.folder, engine), path

    def _chunk_frames(self, info: VideoInfo) -> int:
        render, frame_bytes = self._config.render, info.width * info.height * 3 // 2  # YUV 4:2:0, 8 bit
        return max(_MIN_CHUNK_FRAMES, min(render.chunk_frames, render.max_chunk_bytes // frame_bytes))


class _WatermarkWriter:
    """Implements `rendering.frame_pipeline.PictureWriter`: adds the watermarks of each frame."""

    def __init__(self, writer: SegmentWriter, marks: Iterable[tuple[FrameMark, ...]]) -> None:
        self._writer, self._marks = writer, iter(marks)

    def write(self, planes: YuvFrame, patch: Patch | None = None) -> None:
        self._writer.write(planes, patch, next(self._marks))


def _next_position(positions: Sequence[int]) -> int:
    """Return the position after the last one, in the direction in which the reader moved."""
    before, last = positions[-2:][0], positions[-1]
    return last + (1 if last >= before else -1)
