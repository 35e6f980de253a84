"""LandmarkGenerator: source frames -> an avatar (once); what an engine heard x an avatar -> its plan."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from ray import serve

from config import PipelineConfig
from deployments.runtime.replica import CallGate, Threads, assigned_device, claim_threads, stage_method
from jobs.messages import AvatarRef, BlockFeatures, BlockRequest, SourceVideo
from media.cancel_token import CancelToken
from media.decoding.decoder import Decoders
from media.decoding.decoder_reader import DecoderReader, FrameSettings
from media.probe import VideoInfo, probe_video
from models.avatar.avatar import Avatar
from models.avatar.folder import (
    AVATAR_FILES,
    COMPLETE_FILE,
    INFO_FILE,
    analysis_part,
    is_analysed,
    mark_analysed,
)
from models.engines.catalog import EngineCatalog
from models.engines.protocol import EngineClass, PlannedBlock
from models.engines.registry import ENGINES
from models.face.choice import FaceChoice
from models.track.raw_landmarks import RawLandmarks
from models.track.square_pixels import pixel_aspect
from models.track.state import TrackState
from models.track.tracker import FaceTracker
from rendering.avatar_cache import AvatarCache
from rendering.lru_pool import LruPool
from storage.file_keys import split
from storage.state import open_files
from telemetry import metrics


@serve.deployment
class LandmarkGenerator:
    """Holds the networks that find and follow faces; what continues between calls is passed in."""

    def __init__(self, config: PipelineConfig, engines: Mapping[str, str | EngineClass] = ENGINES) -> None:
        """Load the networks."""
        num_threads, device = claim_threads(), assigned_device()
        self._config = config
        self._files = open_files(config)
        self._num_threads = num_threads
        self._tracker = FaceTracker(num_threads=num_threads, device=device)
        self._engines = EngineCatalog(config, num_threads, engines)
        self._engines.engine(config.engine)
        self._threads = Threads("LandmarkGenerator")
        self._gate = CallGate(self._threads)
        self._decoders = Decoders(config.decoder, metrics.decoder_died)
        self._decoders.warm()
        self._readers: LruPool[tuple[str, int], DecoderReader] = LruPool(4, DecoderReader.close)
        self._avatars = AvatarCache(self._files)

    @stage_method
    async def track(
        self, source: SourceVideo, choice: FaceChoice, start: int, stop: int, state: TrackState | None, out: str
    ) -> TrackState:
        """Find landmarks in source frames [start, stop), continuing from `state` (None at the first frame).

        Args:
            source: The avatar's video.
            choice: Which face.
            start: First frame.
            stop: Frame after the last.
            state: What the call before returned.
            out: Key of the landmarks, written whole or not at all: they are too many to send around.

        Raises:
            FaceNotFoundError: The first frames hold no face of that choice.
            MediaError: The video cannot be decoded.
        """
        timeout_s = self._config.jobs.call_timeout_s(stop - start)

        def work(token: CancelToken) -> TrackState:
            with self._files.fetched(source.key) as path:
                reader = self._readers.take((source.key, start), lambda: self._open(path, source.info, timeout_s))
                try:
                    with token.on_cancel(reader.close):
                        frames = reader.read(range(start, stop))
                        aspect = pixel_aspect(source.info)
                        raw, new_state = self._tracker.track_chunk(frames, source.info.colour, choice, state, aspect)
                except BaseException:
                    reader.close()
                    raise
            if not token.is_cancelled():  # which closed it
                self._readers.put((source.key, stop), reader)
            with self._files.written(out) as part:
                raw.save(part)
            return new_state

        return await self._threads.run(work, timeout_s)

    @stage_method
    async def reference(self, picture: str) -> FaceChoice:
        """Return the choice of the person whom a picture, given by its key, shows.

        Raises:
            FaceNotFoundError: It does not show exactly one face.
            MediaError: It cannot be decoded.
        """
        timeout_s = self._config.jobs.call_timeout_s(1)

        def work(token: CancelToken) -> FaceChoice:
            with self._files.fetched(picture) as path:
                probe = partial(probe_video, path, self._config.limits)
                info = self._decoders.run(probe, file=path, timeout_s=timeout_s, token=token)
                with self._open(path, info, timeout_s) as reader, token.on_cancel(reader.close):
                    (frame,) = reader.read([0])
            return self._tracker.reference(frame, info.colour)

        return await self._threads.run(work, timeout_s)

    @stage_method
    async def build_avatar(self, avatar: AvatarRef, tracks: Sequence[str]) -> bool:
        """Smooth the whole track and write the avatar's folder; return whether the source talks.

        Args:
            avatar: Its folder is written whole or not at all.
            tracks: Keys of what `track` wrote, in one folder and in order, covering the whole video.
        """
        source, folder = avatar.source, split(tracks[0])[0]
        names = [split(track)[1] for track in tracks]
        timeout_s = self._config.jobs.call_timeout_s(source.info.num_frames)

        def work(token: CancelToken) -> bool:
            with self._files.fetched_folder(folder, names) as tracked:
                raw = RawLandmarks.concatenate([RawLandmarks.load(tracked / name) for name in names])
            with (
                self._files.fetched(source.key) as path,
                self._files.written_folder(avatar.folder, "", INFO_FILE) as made,
                self._open(path, source.info, timeout_s) as reader,
                token.on_cancel(reader.close),
            ):
                return Avatar.build(made, source.info, raw, reader).talks

        return await self._threads.run(work, timeout_s)

    @stage_method
    async def is_analysed(self, engine: str, avatar: AvatarRef) -> bool:
        """Return whether an engine has all that it keeps of an avatar."""

        def work(token: CancelToken) -> bool:
            maker = self._engines.engine(engine)
            with self._files.fetched_folder(avatar.folder, (analysis_part(maker),)) as folder:
                return is_analysed(folder, maker)

        return await self._threads.run(work, self._config.engine_cache.load_timeout_s)

    @stage_method
    async def analyse(self, source_audio_features: Any | None, engine: str, avatar: AvatarRef) -> None:
        """Have an engine write what it keeps of an avatar beside the track, whole or not at all.

        Args:
            source_audio_features: What the engine heard in the source's own sound; None if it has none.
            engine: Name of the engine.
            avatar: A tracked avatar.

        Raises:
            OptionError: There is no engine of that name.
        """
        timeout_s = self._config.jobs.call_timeout_s(avatar.source.info.num_frames)

        def work(token: CancelToken) -> None:
            maker, source = self._engines.engine(engine), avatar.source
            part = analysis_part(maker)
            with (
                self._files.fetched(source.key) as path,
                self._files.written_folder(avatar.folder, part, COMPLETE_FILE, AVATAR_FILES) as folder,
                self._open(path, source.info, timeout_s) as reader,
                token.on_cancel(reader.close),
            ):
                known = Avatar.load(folder)
                maker.analyse(known, known.frames(reader), source_audio_features, token.is_cancelled)
                mark_analysed(folder, maker)

        await self._threads.run(work, timeout_s)

    @stage_method
    async def plan(self, features: BlockFeatures, request: BlockRequest, state: Any) -> PlannedBlock:
        """Return what an engine shows in one block of output frames."""

        def work(token: CancelToken) -> PlannedBlock:
            engine = self._engines.engine(request.engine)
            known = self._avatars.take(request.avatar.folder, engine)
            try:
                index = self._source_frames(known.avatar, request, features.stress)
                planned = engine.plan(known.avatar, features.features, request.span, index, state)
            except BaseException:
                known.close()  # it may be damaged, and made again
                raise
            self._avatars.put(known)
            return planned

        return await self._threads.run(work, self._config.jobs.call_timeout_s(request.span.num))

    async def ready(self) -> bool:
        """True once the networks are loaded."""
        return True

    async def check_health(self) -> None:
        """Fail while work hangs; Serve then replaces the replica."""
        self._threads.check()

    def _open(self, path: Path, info: VideoInfo, timeout_s: float) -> DecoderReader:
        settings = FrameSettings.of(self._config, self._num_threads, timeout_s)
        return DecoderReader(self._decoders, path, info, settings)

    def _source_frames(self, avatar: Avatar, request: BlockRequest, stress: NDArray[np.float32]) -> NDArray[np.int32]:
        frames = range(request.span.first, request.span.stop)
        return avatar.shown_frames(frames, request.loop, stress, self._config.render.still_idle_motion)
