"""Studio: decodes, cuts, pastes back and encodes one segment; the only place where full frames live."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from ray import serve
from ray.serve.handle import DeploymentHandle

from config import PipelineConfig
from deployments import metrics
from deployments.calls import CallBounds, Sent, call_stage
from deployments.landmark_generator import SourceVideo
from deployments.log_context import Work, current_work
from deployments.replica import Loaded, Room, Threads, claim_threads, stage_call
from media.decoder import Decoders, written_whole
from media.decoder_reader import DecoderReader, FrameSettings
from media.frame_memory import return_freed_frames
from media.frame_source import FrameSource
from media.joiner import join_segments
from media.planes import Planes
from media.probe import AudioInfo, VideoInfo, probe_audio, probe_video
from media.stop import Stop
from media.writer import SegmentWriter
from models.avatar import Avatar
from models.drive import Drive
from models.face_chunk import FaceChunk, FacePatches
from models.warp.cut import cut_faces

T = TypeVar("T")

_MAX_IDLE_READERS = 2


class Probed(NamedTuple):
    """What the probe found; None for what was not asked."""

    video: VideoInfo | None
    audio: AudioInfo | None


@serve.deployment
class Studio:
    """Renders segments. A call reads nothing but the avatar and the source, and returns encoded bytes."""

    def __init__(self, config: PipelineConfig, face_synthesis: DeploymentHandle[Any]) -> None:
        """Hold the handle of the next stage; open sources are kept so that the next segment decodes on."""
        return_freed_frames()
        self._config = config
        self._face_synthesis = face_synthesis
        self._num_threads = claim_threads()
        self._room = Room()
        self._threads = Threads("Studio")
        self._decoders = Decoders(config.decoder, metrics.decoder_died)
        self._decoders.warm()
        self._readers: Loaded[tuple[Path, int], FrameSource] = Loaded(_MAX_IDLE_READERS, lambda frames: frames.close())
        self._avatars: Loaded[Path, Avatar] = Loaded(8)

    @stage_call
    async def probe(self, video: Path | None, audio: Path | None) -> Probed:
        """Check inputs before anything is promised.

        Raises:
            MediaError: One of them cannot be used.
            MediaLimitError: One of them passes a limit.
        """
        timeout_s = self._config.jobs.call_timeout_s(0)

        def work(stop: Stop) -> Probed:
            decode = partial(self._decoders.run, timeout_s=timeout_s, stop=stop)
            limits = self._config.limits
            info = decode(partial(probe_video, video, limits), file=video) if video is not None else None
            if info is not None and info.is_still:
                info = replace(info, fps=Fraction(self._config.render.still_fps))
            return Probed(info, decode(partial(probe_audio, audio, limits), file=audio) if audio is not None else None)

        return await self._threads.run(work, timeout_s)

    @stage_call
    async def render(self, avatar_dir: Path, source: SourceVideo, drive: Drive, engine: str) -> bytes:
        """Return one encoded segment: the frames of `drive`, with the faces of `engine`.

        Crops travel to FaceSynthesis in a window of un-awaited calls; while one chunk waits for its faces or is
        encoded, the next is decoded. Patches are pasted back in order.
        """
        render = self._config.render
        avatar = await self._run(
            lambda stop: self._avatars.take(avatar_dir, lambda: Avatar.load(avatar_dir)), len(drive)
        )
        reader_key = (source.path, int(drive.source_index[0]))
        reader = self._readers.take(reader_key, lambda: self._open(source, avatar))
        window: deque[asyncio.Task[None]] = deque()
        try:
            writer = SegmentWriter(source.info, render.crf, render.preset, num_threads=render.encoder_threads)
            step = self._chunk_frames(source.info)
            written: asyncio.Task[None] | None = None
            for start in range(0, len(drive), step):
                piece = drive.slice(start, min(start + step, len(drive)))
                frames, faces = await self._run(partial(_decode_and_cut, reader, avatar, piece), len(piece))
                patches = self._synthesize(engine, faces)
                written = asyncio.create_task(self._write_after(written, writer, frames, patches))
                window.append(written)
                if len(window) >= render.chunk_window:
                    await window.popleft()
            while window:
                await window.popleft()
            segment = await self._run(lambda stop: writer.finish(), len(drive))
        except BaseException:
            for task in window:
                task.cancel()
            await asyncio.gather(*window, return_exceptions=True)
            reader.close()
            raise
        self._readers.put((source.path, _next_index(drive)), reader)
        self._avatars.put(avatar_dir, avatar)
        return segment

    @stage_call
    async def join(
        self, segments: Sequence[Path], audio: Path, out: Path, source: SourceVideo, num_frames: int
    ) -> None:
        """Join finished segments by packet copy and add the caller's sound."""
        timeout_s = self._config.jobs.call_timeout_s(num_frames // 4)

        def work(stop: Stop) -> None:
            with written_whole(out) as part:
                join = partial(join_segments, segments, audio, part, source.info, num_frames, self._config.limits)
                self._decoders.run(join, file=audio, timeout_s=timeout_s, stop=stop)

        await self._threads.run(work, timeout_s)

    async def ready(self) -> bool:
        """True once the replica runs."""
        return True

    async def check_health(self) -> None:
        """Fail while work hangs; Serve then replaces the replica."""
        self._threads.check()

    def _open(self, source: SourceVideo, avatar: Avatar) -> FrameSource:
        timeout_s = self._config.jobs.call_timeout_s(self._config.render.chunk_frames)
        settings = FrameSettings.of(self._config, self._num_threads, timeout_s)
        return avatar.frames(DecoderReader(self._decoders, source.path, source.info, settings))

    def _chunk_frames(self, info: VideoInfo) -> int:
        render, frame_bytes = self._config.render, info.width * info.height * 3 // 2
        return max(4, min(render.chunk_frames, render.max_chunk_bytes // frame_bytes))

    async def _run(self, work: Callable[[Stop], T], num_frames: int) -> T:
        return await self._threads.run(work, self._config.jobs.call_timeout_s(num_frames))

    def _synthesize(self, engine: str, faces: FaceChunk) -> asyncio.Future[FacePatches]:
        bounds = CallBounds.of(self._config.jobs, self._config.render.chunk_frames)

        def start(work: Work) -> Sent:
            return self._face_synthesis.synthesize.remote(work, engine, faces)

        # Tries are counted for each chunk: that this segment is tried again says nothing of its chunks.
        work = current_work()._replace(attempt=1)
        return asyncio.ensure_future(call_stage("FaceSynthesis", work, start, bounds))

    async def _write_after(
        self,
        before: asyncio.Task[None] | None,
        writer: SegmentWriter,
        frames: list[Planes],
        patches: asyncio.Future[FacePatches],
    ) -> None:
        """Encode `frames` with their faces when both the faces and what comes before them are done."""
        try:
            faces = await patches
            if before is not None:
                await asyncio.wait([before])
                before.result()
        except BaseException:
            patches.cancel()
            raise

        def encode(stop: Stop) -> None:
            for number, frame in enumerate(frames):
                writer.write(frame, faces.patch(number))

        await self._run(encode, len(frames))


def _decode_and_cut(reader: FrameSource, avatar: Avatar, drive: Drive, stop: Stop) -> tuple[list[Planes], FaceChunk]:
    with stop.ending(reader.close):
        frames = list(reader.read(drive.source_index.tolist()))
    return frames, cut_faces(avatar, drive, frames)


def _next_index(drive: Drive) -> int:
    """Source frame that follows `drive`, going on in the direction in which it ends."""
    last = drive.source_index[-2:].tolist()
    return int(last[-1] + (1 if last[-1] >= last[0] else -1))
