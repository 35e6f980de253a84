"""Renders chunks of live sessions: audio features, plan, faces and encoding in one process, without queues."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from config import PipelineConfig
from errors import ConfigError, OptionError
from jobs.messages import AvatarRef
from media.cancel_token import CancelToken
from media.frame_source import FrameSource
from media.live.gop_encoder import GopEncoder
from media.playback import Playback
from models.avatar.avatar import Avatar
from models.engines.patches import FacePatches
from models.engines.protocol import (
    Chunk,
    Engine,
    FrameSpan,
    LiveAudioEncoder,
    LiveEngine,
    Machine,
    Plan,
    scales_movement,
)
from models.speech.stress import window_stress
from rendering.avatar_cache import AvatarCache, LruPool
from rendering.frame_marks import live_marks
from rendering.frame_pipeline import BlockingWork, FramePipeline, PlannedFace
from rendering.live_chunk import LiveChunk, LiveChunkRequest
from rendering.segment_renderer import OpenSource
from storage.files import StoredFiles

_MAX_READERS = 8


class LiveRenderer:
    """Renders live chunks with one engine; what continues between chunks is passed in and returned.

    Raises:
        ConfigError: The engine cannot speak live.
    """

    def __init__(
        self,
        config: PipelineConfig,
        engine: Engine,
        machine: Machine,
        run: BlockingWork,
        open_source: OpenSource,
        files: StoredFiles,
    ) -> None:
        audio_encoder = engine.audio_encoder(machine)
        if not isinstance(engine, LiveEngine) or not isinstance(audio_encoder, LiveAudioEncoder):
            raise ConfigError(f"live.engine: expected an engine that can speak live, found {config.live.engine!r}.")
        self._config, self._run = config, run
        self._engine, self._live, self._audio_encoder = engine, engine, audio_encoder
        self._face_generator = engine.face_generator(machine)
        self._open_source, self._files = open_source, files
        self._renderer = FramePipeline(self._generate, run, window=1)
        self._avatars = AvatarCache(files)
        self._readers: LruPool[tuple[str, int], FrameSource] = LruPool(_MAX_READERS, lambda frames: frames.close())

    async def render(self, request: LiveChunkRequest) -> LiveChunk:
        """Render one chunk.

        Raises:
            MediaError: The avatar's source cannot be decoded.
            OptionError: The engine cannot scale the movement and the expressiveness is not 1.
            StageTimeoutError: Rendering took too long.
        """
        if request.expressiveness != 1 and not scales_movement(self._engine):
            raise OptionError(f"expressiveness: engine {self._engine.name} cannot scale the movement; omit it.")
        source, live = request.avatar.source, self._config.live
        num = request.num_frames
        with ExitStack() as files:
            avatar, path = await self._run(partial(self._fetch, request.avatar, files), num)
            avatar = replace(avatar, expressiveness=request.expressiveness)
            index = self._source_frames(avatar, request)
            position, next_position = avatar.places(index[[0, num]])
            key = (source.key, position)
            reader = self._readers.take(key, lambda: self._open_source(path, source.info, avatar))
            try:
                plan, state = await self._run(partial(self._plan, avatar, request, index), num)
                face = PlannedFace(live.engine, partial(self._engine.cut, avatar), plan)
                group = GopEncoder(
                    source.info,
                    live.crf,
                    live.preset,
                    live_marks(source.info, request.session_id, request.first_frame, self._config.labels),
                )
                await self._renderer.render(reader, plan.source_index, [face], group, num)
                pictures = await self._run(lambda token: group.finish(), num)
            except BaseException:
                reader.close()
                raise
        self._readers.put((source.key, next_position), reader)
        return LiveChunk(pictures, state)

    def _fetch(self, avatar: AvatarRef, files: ExitStack, token: CancelToken) -> tuple[Avatar, Path]:
        """Return the avatar, which sessions share, and the path of its source, valid until `files` closes."""
        path = files.enter_context(self._files.fetched(avatar.source.key))
        cached = self._avatars.take(avatar.folder, self._engine)
        self._avatars.put(cached)
        return cached.avatar, path

    def _plan(
        self, avatar: Avatar, request: LiveChunkRequest, index: NDArray[np.int32], token: CancelToken
    ) -> tuple[Plan, object]:
        features = self._audio_encoder.encode_live(request.window)
        total = request.first_frame + len(index)
        span = FrameSpan(avatar.info.fps, request.first_frame, len(index), total)
        return self._live.plan_live(avatar, features, span, index, request.state)

    def _source_frames(self, avatar: Avatar, request: LiveChunkRequest) -> NDArray[np.int32]:
        # "pingpong" plays the source forward and backward: no jumps. Speech moves the head of a still only;
        # frames after this chunk, which only serve as context, use as much of the speech as has arrived.
        frames = range(request.first_frame, request.first_frame + request.num_frames + self._live.look_ahead_frames)
        stress = window_stress(request.window, np.array(frames) / float(avatar.info.fps))
        return avatar.shown_frames(frames, Playback(), stress, self._config.render.still_idle_motion)

    def _generate(self, engine: str, chunk: Chunk) -> asyncio.Future[FacePatches]:
        def work(token: CancelToken) -> FacePatches:
            return self._face_generator.generate(chunk, token.is_cancelled)

        return asyncio.ensure_future(self._run(work, chunk.num_frames))
