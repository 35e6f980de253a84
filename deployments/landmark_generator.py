"""LandmarkGenerator: source frames -> an avatar (once); audio features x an avatar -> a plan."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from ray import serve

from deployments.runtime.replica import (
    GRACE_S,
    StageReplica,
    assigned_device,
    claim_threads,
    make_decoders,
    stage_method,
)
from lipwright.config import PipelineConfig
from lipwright.jobs.messages import (
    AvatarRef,
    BlockFeatures,
    BlockRequest,
    ClipPart,
    Composite,
    CropRequest,
    PreparedSpeech,
    ShownBlock,
    SourceVideo,
    num_frames_of,
)
from lipwright.media.cancel_token import CancelToken
from lipwright.media.decoding.memory_budget import release_large_arrays
from lipwright.media.matte import ScreenColour
from lipwright.rendering.avatar_builder import AvatarBuilder
from lipwright.rendering.avatar_cache import AvatarCache
from lipwright.rendering.clip_composer import ClipComposer
from lipwright.rendering.crop_planner import plan_crop
from lipwright.rendering.matte_builder import MatteBuilder
from lipwright.rendering.people_builder import PeopleBuilder
from lipwright.rendering.source_readers import SourceReaders
from lipwright.storage.state import open_files
from models.engines.catalog import EngineCatalog
from models.engines.protocol import EngineClass, FrameSpan
from models.engines.registry import ENGINES
from models.face.choice import FaceChoice
from models.matting.generator import MatteGenerator
from models.matting.person import PersonSegmenter
from models.people.scan import PeopleScanner, ScanState
from models.speech.features import FeatureBlock
from models.track.tracker import FaceTracker, TrackState


@serve.deployment(graceful_shutdown_timeout_s=GRACE_S)
class LandmarkGenerator(StageReplica):
    """Holds the networks that find and track faces; `lipwright.jobs.ports.Stages` describes the methods.

    State that continues between calls is passed in, and so are the engine's features of speech.
    """

    def __init__(self, config: PipelineConfig, engines: Mapping[str, str | EngineClass] = ENGINES) -> None:
        """Load the networks."""
        super().__init__("LandmarkGenerator", config)
        release_large_arrays()
        num_threads, device = claim_threads(), assigned_device()
        files, decoders = open_files(config), make_decoders(config)
        tracker = FaceTracker(num_threads=num_threads, device=device)
        readers = SourceReaders(config, files, decoders, num_threads)
        self._engines = EngineCatalog(config, num_threads, engines)
        self._engines.engine(config.engine)
        generator = MatteGenerator(PersonSegmenter(num_threads=num_threads, device=device))
        self._builder = AvatarBuilder(config.limits, files, decoders, tracker, generator, readers)
        self._composer = ClipComposer(config.limits, files, decoders, readers)
        self._people = PeopleBuilder(files, PeopleScanner(tracker.finder), readers, num_threads)
        self._mattes = MatteBuilder(files, generator, readers, num_threads)
        self._avatars = AvatarCache(files)

    @stage_method
    async def track(
        self, source: SourceVideo, choice: FaceChoice, start: int, stop: int, state: TrackState | None, out: str
    ) -> TrackState:
        frames = range(start, stop)
        return await self._run(
            lambda token: self._builder.track(source, choice, frames, state, out, token), len(frames)
        )

    @stage_method
    async def reference(self, picture: str) -> FaceChoice:
        return await self._run(lambda token: self._builder.reference(picture, token), 1)

    @stage_method
    async def appearance(self, avatar: AvatarRef) -> FaceChoice:
        num_frames = avatar.source.info.num_frames
        return await self._run(lambda token: self._composer.appearance(avatar, token), num_frames)

    @stage_method
    async def check_fit(self, clip: ClipPart, own: AvatarRef) -> None:
        num_frames = num_frames_of([clip]) + own.source.info.num_frames
        await self._run(lambda token: self._composer.check_fit(clip, own, token), num_frames)

    @stage_method
    async def compose(self, parts: Sequence[ClipPart], out: str) -> Composite:
        return await self._run(lambda token: self._composer.compose(parts, out, token), num_frames_of(parts))

    @stage_method
    async def build_avatar(self, avatar: AvatarRef, tracks: Sequence[str], cuts: Sequence[int]) -> bool:
        num_frames = avatar.source.info.num_frames
        return await self._run(lambda token: self._builder.build(avatar, tracks, token, cuts), num_frames)

    @stage_method
    async def is_analysed(self, engine: str, avatar: AvatarRef) -> bool:
        def work(token: CancelToken) -> bool:
            return self._builder.is_analysed(avatar, self._engines.engine(engine))

        return await self._threads.run(work, self._config.engine_cache.load_timeout_s)

    @stage_method
    async def analyse(self, source_audio_features: Any | None, engine: str, avatar: AvatarRef) -> None:
        await self._run(
            lambda token: self._builder.analyse(avatar, self._engines.engine(engine), source_audio_features, token),
            avatar.source.info.num_frames,
        )

    @stage_method
    async def scan_people(
        self, source: SourceVideo, start: int, stop: int, state: ScanState | None, out: str
    ) -> ScanState:
        frames = range(start, stop)
        return await self._run(lambda token: self._people.scan(source, frames, state, out, token), len(frames))

    @stage_method
    async def predict_source_mouth(
        self, features: BlockFeatures, speech: PreparedSpeech, span: FrameSpan, out: str
    ) -> None:
        heard = features.features
        assert isinstance(heard, FeatureBlock)
        await self._run(lambda token: self._people.predict_mouth(heard, speech, span, out), span.num)

    @stage_method
    async def find_people(self, folder: str, source: SourceVideo, scans: Sequence[str], mouths: Sequence[str]) -> None:
        num_frames = source.info.num_frames
        await self._run(lambda token: self._people.find(folder, source, scans, mouths, token), num_frames)

    @stage_method
    async def find_screen(self, source: SourceVideo, is_expected: bool) -> ScreenColour | None:
        num_frames = source.info.num_frames
        return await self._run(lambda token: self._mattes.find_screen(source, is_expected, token), num_frames)

    @stage_method
    async def matte(
        self, avatar: AvatarRef, screen: ScreenColour | None, start: int, stop: int, before: str | None, out: str
    ) -> None:
        frames = range(start, stop)
        await self._run(lambda token: self._mattes.matte(avatar, screen, frames, before, out, token), len(frames))

    @stage_method
    async def join_matte(
        self, avatar: AvatarRef, part: str, screen: ScreenColour | None, pieces: Sequence[str]
    ) -> None:
        num_frames = avatar.source.info.num_frames
        await self._run(lambda token: self._mattes.join(avatar, part, screen, pieces), num_frames)

    @stage_method
    async def crop_path(self, request: CropRequest) -> NDArray[np.float32]:
        engine = self._engines.engine(request.engine)
        return await self._run(lambda token: plan_crop(self._avatars, engine, request), 0)

    @stage_method
    async def plan(self, features: BlockFeatures, request: BlockRequest, state: object) -> ShownBlock:
        def work(token: CancelToken) -> ShownBlock:
            engine = self._engines.engine(request.engine)
            cached = self._avatars.take(request.avatar.folder, engine)
            try:
                frames = range(request.span.first, request.span.stop)
                fps, avatar = float(request.span.fps), cached.avatar
                shown = avatar.shown_frames(frames, fps, request.playback, features.prosody, request.behaviours)
                avatar = avatar.speaking(request.expressiveness, shown, request.closures)
                planned = engine.plan(avatar, features.features, request.span, avatar.rows(shown), state)
            except BaseException:
                cached.close()  # it may be damaged; the next call loads it again
                raise
            self._avatars.put(cached)
            return ShownBlock(planned, shown)

        return await self._run(work, request.span.num)
