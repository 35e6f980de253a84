"""Renders one segment of a job: source frames with generated faces, encoded."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from lipwright.config import PipelineConfig
from lipwright.jobs.messages import OutputPicture, SegmentRequest, SegmentWatermark
from lipwright.jobs.model.job_settings import JobSettings
from lipwright.media.cancel_token import CancelToken
from lipwright.media.decoding.decoder import Decoders
from lipwright.media.decoding.decoder_reader import DecoderReader, FrameSettings
from lipwright.media.frame_source import FrameSource
from lipwright.media.labels.watermark import FrameMark
from lipwright.media.output.picture import PictureMaker
from lipwright.media.probe import VideoInfo
from lipwright.media.self_test import check_encoder
from lipwright.media.watermark.region import Box
from lipwright.media.writer import SegmentWriter
from lipwright.media.yuv_frame import Patch, YuvFrame
from lipwright.rendering.avatar_cache import AvatarCache, CachedAvatar
from lipwright.rendering.background_opener import BackgroundOpener, OpenSource
from lipwright.rendering.frame_marks import segment_marks
from lipwright.rendering.frame_pipeline import BlockingWork, FramePipeline, GenerateFaces, PlannedFace
from lipwright.rendering.lru_pool import LruPool
from lipwright.storage.files import StoredFiles
from models.avatar.avatar import Avatar
from models.engines.catalog import EngineCatalog
from models.engines.protocol import Engine
from models.mouth.motion import RunningStats


@dataclass(frozen=True)
class SourceOpener:
    """Implements `OpenSource`: opens the frames of an avatar's source in a decoder process."""

    config: PipelineConfig  # the settings of decoders
    decoders: Decoders  # where frames are decoded
    num_threads: int  # threads of one decoder
    timeout_s: float  # limit of one read

    def __call__(self, path: Path, info: VideoInfo, avatar: Avatar | None) -> FrameSource:
        """Open the frames of the source at `path`, as `avatar` shows them; the caller closes them."""
        reader = DecoderReader(
            self.decoders, path, info, FrameSettings.of(self.config, self.num_threads, self.timeout_s)
        )
        return reader if avatar is None else avatar.frames(reader)


_MAX_IDLE_READERS = 2
_MIN_CHUNK_FRAMES = 4
_MAX_SKIPPED_FRAMES = 125  # a new reader skips as many on average with x264's default of 250 frames per keyframe


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
        """Raise ConfigError if `render.encoder` does not work on this machine."""
        check_encoder(config.render.encoder)
        self._config, self._engines, self._run = config, engines, run
        self._open_source, self._files = open_source, files
        self._holds_all = FrameSettings.of(config, 1, 0.0).holds_all
        self._pipeline = FramePipeline(generate, run, config.render.chunk_window)
        self._readers: LruPool[tuple[str, int], FrameSource] = LruPool(_MAX_IDLE_READERS, lambda frames: frames.close())
        self._avatars = AvatarCache(files)
        self._backgrounds = BackgroundOpener(open_source, files)

    async def render(self, request: SegmentRequest, watermark: SegmentWatermark) -> tuple[bytes, RunningStats]:
        """Return the encoded frames of a segment, and the mouths' motion in silence measured on their faces."""
        info, render, num_frames = request.source.info, self._config.render, len(request.source_index)
        picture = request.picture or OutputPicture.of(JobSettings(), info)
        async with self._open(request) as (reader, faces, avatar):
            with ExitStack() as held:
                open_background = partial(self._backgrounds.open, request, reader, avatar, held)
                frames, cutout = await self._run(lambda token: open_background(), num_frames)
                encoder = SegmentWriter(
                    picture.info,
                    render.crf,
                    render.preset,
                    render.encoder_threads,
                    quality=picture.quality,
                    in_band_headers=request.has_copies,
                    file_format=picture.file_format.with_encoder(render.encoder, picture.info),
                    has_alpha=picture.has_alpha,
                    draw=PictureMaker(picture.framing, request.corners, cutout).draw,
                )
                marks = await self._run(
                    lambda token: segment_marks(
                        picture.info,
                        watermark,
                        num_frames,
                        self._config.labels,
                        has_alpha=picture.has_alpha,
                        person=_person_box(request, picture),
                    ),
                    num_frames,
                )
                writer = _WatermarkWriter(encoder, marks)
                chunk_frames = self._chunk_frames(info, has_matte=cutout is not None)
                motion = await self._pipeline.render(frames, request.source_index, faces, writer, chunk_frames)
                return await self._run(lambda token: encoder.finish(), num_frames), motion

    @asynccontextmanager
    async def _open(
        self, request: SegmentRequest
    ) -> AsyncIterator[tuple[FrameSource, list[PlannedFace], Avatar | None]]:
        """Lend frames, faces and the first avatar. They are kept for the next segment, or closed if the block fails."""
        source = request.source
        with ExitStack() as fetched, ExitStack() as on_error:
            path, avatars = await self._run(partial(self._fetch, request, fetched), len(request.source_index))
            for cached, _ in avatars:
                on_error.callback(cached.close)
            first = avatars[0][0].avatar if avatars else None
            is_still, positions = source.info.is_still, request.source_index.tolist()
            place, next_place = (0, 0) if is_still else (positions[0], _next_position(positions))
            # The frames of a still are drawn with the motion of one face.
            frames_of = request.faces[0].avatar.folder if is_still and request.faces else source.key
            reader = self._readers.take_cheapest(
                partial(self._num_skipped, (frames_of, place), source.info),
                lambda: self._open_source(path, source.info, first),
            )
            on_error.callback(reader.close)
            yield (
                reader,
                [
                    PlannedFace(
                        face.engine,
                        partial(engine.crop, cached.avatar),
                        face.plan,
                        face.weight,
                        cached.avatar.occluders,
                    )
                    for face, (cached, engine) in zip(request.faces, avatars, strict=True)
                ],
                first,
            )
            on_error.pop_all()
        self._readers.put((frames_of, next_place), reader)
        for cached, _ in avatars:
            self._avatars.put(cached)

    def _fetch(
        self, request: SegmentRequest, fetched: ExitStack, token: CancelToken
    ) -> tuple[Path, list[tuple[CachedAvatar, Engine]]]:
        """Return the path of the source, valid until `fetched` is closed, and the avatars with their engines."""
        path = fetched.enter_context(self._files.fetched(request.source.key))
        with ExitStack() as on_error:
            avatars = []
            for face in request.faces:
                engine = self._engines.engine(face.engine)
                avatars.append((self._avatars.take(face.avatar.folder, engine), engine))
                on_error.callback(avatars[-1][0].close)
            on_error.pop_all()
        return path, avatars

    def _num_skipped(self, wanted: tuple[str, int], info: VideoInfo, key: tuple[str, int]) -> int | None:
        """Return how many frames the reader of `key` would decode and discard; None if it should not be used.

        Both keys are of `_readers`: what is read, and the next frame.
        """
        (file, position), (wanted_file, wanted_position) = key, wanted
        if file != wanted_file:
            return None
        if self._holds_all(info):
            return 0
        num_frames = wanted_position - position
        return num_frames if 0 <= num_frames <= _MAX_SKIPPED_FRAMES else None

    def _chunk_frames(self, info: VideoInfo, *, has_matte: bool) -> int:
        render, num_pixels = self._config.render, info.width * info.height
        frame_bytes = num_pixels * 3 // 2 + (num_pixels if has_matte else 0)  # YUV 4:2:0, 8 bit
        return max(_MIN_CHUNK_FRAMES, min(render.chunk_frames, render.max_chunk_bytes // frame_bytes))


class _WatermarkWriter:
    """Implements `lipwright.rendering.frame_pipeline.PictureWriter`; adds the watermarks of each frame."""

    def __init__(self, writer: SegmentWriter, marks: Iterable[tuple[FrameMark, ...]]) -> None:
        self._writer, self._marks = writer, iter(marks)

    def write(self, planes: YuvFrame, patches: Sequence[Patch] = ()) -> None:
        self._writer.write(planes, patches, next(self._marks))


def _person_box(request: SegmentRequest, picture: OutputPicture) -> Box | None:
    """Return where the person is in the pictures of a segment; None if that is unknown."""
    is_whole = not picture.framing.crops(request.source.info)
    return request.background.matte.report.person_box if request.background is not None and is_whole else None


def _next_position(positions: Sequence[int]) -> int:
    """Return the position after the last one, in the direction in which the reader moved."""
    before, last = positions[-2:][0], positions[-1]
    return last + (1 if last >= before else -1)
