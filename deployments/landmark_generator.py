"""LandmarkGenerator: source frames -> an avatar (once); audio features x an avatar -> a plan."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from ray import serve

from config import PipelineConfig
from deployments.runtime.replica import (
    GRACE_S,
    StageReplica,
    assigned_device,
    claim_threads,
    make_decoders,
    stage_method,
)
from jobs.messages import (
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
from media.cancel_token import CancelToken
from media.matte import ScreenColour
from models.engines.catalog import EngineCatalog
from models.engines.protocol import EngineClass, FrameSpan
from models.engines.registry import ENGINES
from models.face.choice import FaceChoice
from models.matting.generator import MatteGenerator
from models.matting.person import PersonSegmenter
from models.people.scan import PeopleScanner, ScanState
from models.speech.features import FeatureBlock
from models.track.tracker import FaceTracker, TrackState
from rendering.avatar_builder import AvatarBuilder
from rendering.avatar_cache import AvatarCache
from rendering.clip_composer import ClipComposer
from rendering.crop_planner import plan_crop
from rendering.matte_builder import MatteBuilder
from rendering.people_builder import PeopleBuilder
from rendering.source_readers import SourceReaders
from storage.state import open_files


@serve.deployment(graceful_shutdown_timeout_s=GRACE_S)
class LandmarkGenerator(StageReplica):
    """Holds the networks that find and track faces. State that continues between calls is passed in."""

    def __init__(self, config: PipelineConfig, engines: Mapping[str, str | EngineClass] = ENGINES) -> None:
        """Load the networks."""
        super().__init__("LandmarkGenerator", config)
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
        """Find landmarks in source frames [start, stop), continuing from `state` (None at the first frame).

        They are written to the key `out`, completely or not at all: they are too large to send.

        Raises:
            FaceNotFoundError: The first frames contain no face that matches `choice`.
            MediaError: The video cannot be decoded.
        """
        frames = range(start, stop)
        return await self._run(
            lambda token: self._builder.track(source, choice, frames, state, out, token), len(frames)
        )

    @stage_method
    async def reference(self, picture: str) -> FaceChoice:
        """Return the choice of the person in a picture, given by its key.

        Raises:
            FaceNotFoundError: The picture does not show exactly one face.
            MediaError: It cannot be decoded.
        """
        return await self._run(lambda token: self._builder.reference(picture, token), 1)

    @stage_method
    async def appearance(self, avatar: AvatarRef) -> FaceChoice:
        """Return the choice of the person of a tracked avatar, by the appearance in some of its frames.

        Raises:
            FaceNotFoundError: No frame shows the face well enough.
            MediaError: The video cannot be decoded.
        """
        num_frames = avatar.source.info.num_frames
        return await self._run(lambda token: self._composer.appearance(avatar, token), num_frames)

    @stage_method
    async def check_fit(self, clip: ClipPart, own: AvatarRef) -> None:
        """Check that a tracked clip shows the person of an avatar, and fits its video; see `models.clips.fitting`.

        Raises:
            FaceNotFoundError: It shows somebody else.
            OptionError: It does not fit.
        """
        num_frames = num_frames_of([clip]) + own.source.info.num_frames
        await self._run(lambda token: self._composer.check_fit(clip, own, token), num_frames)

    @stage_method
    async def compose(self, parts: Sequence[ClipPart], out: str) -> Composite:
        """Write the source of a composite to the key `out`, completely or not at all; see `compose_clips`.

        Raises:
            OptionError: A clip does not fit.
            MediaError: A video cannot be decoded.
        """
        return await self._run(lambda token: self._composer.compose(parts, out, token), num_frames_of(parts))

    @stage_method
    async def build_avatar(self, avatar: AvatarRef, tracks: Sequence[str], cuts: Sequence[int]) -> bool:
        """Smooth the whole track and write the avatar's folder; return whether the person in the source speaks.

        The folder is written completely or not at all. `tracks` are the keys of the results of `track`, in one folder
        and in order, covering the whole video. For `cuts` see `Avatar.build`.
        """
        num_frames = avatar.source.info.num_frames
        return await self._run(lambda token: self._builder.build(avatar, tracks, token, cuts), num_frames)

    @stage_method
    async def is_analysed(self, engine: str, avatar: AvatarRef) -> bool:
        """Return whether everything that an engine keeps of an avatar is stored."""

        def work(token: CancelToken) -> bool:
            return self._builder.is_analysed(avatar, self._engines.engine(engine))

        return await self._threads.run(work, self._config.engine_cache.load_timeout_s)

    @stage_method
    async def analyse(self, source_audio_features: Any | None, engine: str, avatar: AvatarRef) -> None:
        """Have an engine write what it keeps of a tracked avatar beside the track, completely or not at all.

        It gets its features of the source's own audio; None if there are none.

        Raises:
            OptionError: There is no engine of that name.
        """
        await self._run(
            lambda token: self._builder.analyse(avatar, self._engines.engine(engine), source_audio_features, token),
            avatar.source.info.num_frames,
        )

    @stage_method
    async def scan_people(
        self, source: SourceVideo, start: int, stop: int, state: ScanState | None, out: str
    ) -> ScanState:
        """Find all faces in source frames [start, stop), continuing from `state` (None at the first frame).

        They are written to the key `out`, completely or not at all.

        Raises:
            MediaError: The video cannot be decoded.
        """
        frames = range(start, stop)
        return await self._run(lambda token: self._people.scan(source, frames, state, out, token), len(frames))

    @stage_method
    async def predict_source_mouth(
        self, features: BlockFeatures, speech: PreparedSpeech, span: FrameSpan, out: str
    ) -> None:
        """Write the mouth that a source's own sound predicts to the key `out`; frames of `span` are 20 ms apart."""
        heard = features.features
        assert isinstance(heard, FeatureBlock)
        await self._run(lambda token: self._people.predict_mouth(heard, speech, span, out), span.num)

    @stage_method
    async def find_people(self, folder: str, source: SourceVideo, scans: Sequence[str], mouths: Sequence[str]) -> None:
        """Decide who the people in a source are and who speaks, and store that in the avatar folder `folder`.

        `scans` and `mouths` are the keys of the results of `scan_people` and `predict_source_mouth`, in order; without
        sound there are no `mouths`.
        """
        num_frames = source.info.num_frames
        await self._run(lambda token: self._people.find(folder, source, scans, mouths, token), num_frames)

    @stage_method
    async def find_screen(self, source: SourceVideo, is_expected: bool) -> ScreenColour | None:
        """Return the colour of the green or blue screen behind the person in a source; None if there is none.

        If one `is_expected`, it may share the background with other things.

        Raises:
            MediaError: The video cannot be decoded.
        """
        num_frames = source.info.num_frames
        return await self._run(lambda token: self._mattes.find_screen(source, is_expected, token), num_frames)

    @stage_method
    async def matte(
        self, avatar: AvatarRef, screen: ScreenColour | None, start: int, stop: int, before: str | None, out: str
    ) -> None:
        """Write the matte of source frames [start, stop) of a tracked avatar to the key `out`, completely or not.

        A `screen` is keyed; without one, people are segmented. `before` is the key of the piece that ends at `start`;
        None at the first frame.

        Raises:
            StoredFileError: The piece `before` is gone or damaged.
            MediaError: The video cannot be decoded.
        """
        frames = range(start, stop)
        await self._run(lambda token: self._mattes.matte(avatar, screen, frames, before, out, token), len(frames))

    @stage_method
    async def join_matte(
        self, avatar: AvatarRef, part: str, screen: ScreenColour | None, pieces: Sequence[str]
    ) -> None:
        """Write the matte of a source and its report to a part of the avatar's folder, completely or not at all.

        `pieces` are the keys of the results of `matte`, in one folder and in order, covering the whole source.

        Raises:
            StoredFileError: A piece is gone or damaged.
        """
        num_frames = avatar.source.info.num_frames
        await self._run(lambda token: self._mattes.join(avatar, part, screen, pieces), num_frames)

    @stage_method
    async def crop_path(self, request: CropRequest) -> NDArray[np.float32]:
        """Return the (T, 2) left and upper edges of a crop that follows the faces, see `media.output.crop_path`."""
        engine = self._engines.engine(request.engine)
        return await self._run(lambda token: plan_crop(self._avatars, engine, request), 0)

    @stage_method
    async def plan(self, features: BlockFeatures, request: BlockRequest, state: object) -> ShownBlock:
        """Return an engine's plan of one block of output frames."""

        def work(token: CancelToken) -> ShownBlock:
            engine = self._engines.engine(request.engine)
            cached = self._avatars.take(request.avatar.folder, engine)
            try:
                frames = range(request.span.first, request.span.stop)
                behaviours = request.behaviours if self._config.render.still_idle_motion else ()
                fps, avatar = float(request.span.fps), cached.avatar
                shown = avatar.shown_frames(frames, fps, request.playback, features.prosody, behaviours)
                avatar = avatar.speaking(request.expressiveness, shown, request.closures)
                planned = engine.plan(avatar, features.features, request.span, avatar.rows(shown), state)
            except BaseException:
                cached.close()  # it may be damaged; the next call loads it again
                raise
            self._avatars.put(cached)
            return ShownBlock(planned, shown)

        return await self._run(work, request.span.num)
