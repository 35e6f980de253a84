"""LandmarkGenerator: source frames -> face track and avatar (once); speech features x avatar -> target landmarks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from ray import serve

from config import PipelineConfig
from deployments import metrics
from deployments.replica import Loaded, Room, Threads, assigned_device, claim_threads, stage_call
from media.decoder import Decoders
from media.decoder_reader import DecoderReader, FrameSettings
from media.playback import Loop, source_index
from media.probe import VideoInfo, probe_video
from media.stop import Stop
from models.avatar import Avatar
from models.drive import Drive
from models.exemplar_path import PathState
from models.face_choice import FaceChoice
from models.face_track import FaceTracker, RawLandmarks, TrackState
from models.mouth_calibration import MouthCalibration, calibrate_on_sound
from models.quality_measures import BlockMeasures, measure_block
from models.speech_features import FeatureBlock
from models.speech_level import ROWS_PER_SECOND
from models.speech_to_mouth import SpeechToMouth


@dataclass(frozen=True)
class SourceVideo:
    """A face source: where it lies and what the probe found."""

    path: Path
    info: VideoInfo


class Tracked(NamedTuple):
    """Landmarks of one chunk of source frames, and what the next chunk continues from."""

    raw: RawLandmarks
    state: TrackState


class GeneratedBlock(NamedTuple):
    """Target landmarks of one block of output frames, what the next block continues from, and what was measured."""

    drive: Drive
    state: PathState | None
    measures: BlockMeasures


@dataclass(frozen=True)
class BlockRequest:
    """Which output frames to generate, for which avatar.

    Attributes:
        avatar_dir: Folder of the analysed presenter.
        source: The presenter's video.
        first_frame: Index of the first output frame.
        num_frames: Output frames to generate.
        loop: What to do where the source is shorter than the speech.
    """

    avatar_dir: Path
    source: SourceVideo
    first_frame: int
    num_frames: int
    loop: Loop


@serve.deployment
class LandmarkGenerator:
    """Holds the detector, landmark and speech-to-mouth networks; what continues between calls is passed in."""

    def __init__(self, config: PipelineConfig) -> None:
        """Load the three networks."""
        num_threads, device = claim_threads(), assigned_device()
        self._config = config
        self._num_threads = num_threads
        self._tracker = FaceTracker(num_threads=num_threads, device=device)
        self._speech_to_mouth = SpeechToMouth(num_threads=num_threads, device=device)
        self._room = Room()
        self._threads = Threads("LandmarkGenerator")
        self._decoders = Decoders(config.decoder, metrics.decoder_died)
        self._decoders.warm()
        self._readers: Loaded[tuple[Path, int], DecoderReader] = Loaded(4, DecoderReader.close)
        self._avatars: Loaded[Path, Avatar] = Loaded(8)

    @stage_call
    async def track(
        self, source: SourceVideo, choice: FaceChoice, start: int, stop: int, state: TrackState | None
    ) -> Tracked:
        """Find landmarks in source frames [start, stop), continuing from `state` (None at the first frame).

        Raises:
            FaceNotFoundError: The first frames hold no face of that choice.
            MediaError: The video cannot be decoded.
        """
        timeout_s = self._config.jobs.call_timeout_s(stop - start)

        def work(ended: Stop) -> Tracked:
            key = (source.path, start)
            reader = self._readers.take(key, lambda: self._open(source, timeout_s))
            try:
                with ended.ending(reader.close):
                    frames = reader.read(range(start, stop))
                    raw, new_state = self._tracker.track_chunk(frames, source.info.colour, choice, state)
            except BaseException:
                reader.close()
                raise
            if not ended.is_set():  # which closed it
                self._readers.put((source.path, stop), reader)
            return Tracked(raw, new_state)

        return await self._threads.run(work, timeout_s)

    @stage_call
    async def reference(self, picture: Path) -> FaceChoice:
        """Return the choice of the person whom a picture shows.

        Raises:
            FaceNotFoundError: It does not show exactly one face.
            MediaError: It cannot be decoded.
        """
        timeout_s = self._config.jobs.call_timeout_s(1)

        def work(stop: Stop) -> FaceChoice:
            probe = partial(probe_video, picture, self._config.limits)
            info = self._decoders.run(probe, file=picture, timeout_s=timeout_s, stop=stop)
            with self._open(SourceVideo(picture, info), timeout_s) as reader, stop.ending(reader.close):
                (frame,) = reader.read([0])
            return self._tracker.reference(frame, info.colour)

        return await self._threads.run(work, timeout_s)

    @stage_call
    async def build_avatar(
        self, source: SourceVideo, chunks: Sequence[RawLandmarks], speech: FeatureBlock | None, avatar_dir: Path
    ) -> bool:
        """Smooth the whole track, cut the exemplars and write the avatar's folder; return whether the source talks.

        Args:
            source: The presenter's video.
            chunks: Results of `track`, in order, covering the whole video.
            speech: Features of the source's own sound from time 0, to learn the presenter's range; None if silent.
            avatar_dir: Written whole or not at all.
        """
        timeout_s = self._config.jobs.call_timeout_s(source.info.num_frames)

        def work(stop: Stop) -> bool:
            raw = RawLandmarks.concatenate(chunks)
            with self._open(source, timeout_s) as reader, stop.ending(reader.close):
                avatar = Avatar.build(
                    avatar_dir, source.info, raw, reader, self._config.render.max_bank_frames, stop.is_set
                )
            avatar.save_calibration(self._calibration(avatar, speech))
            return avatar.talks

        return await self._threads.run(work, timeout_s)

    @stage_call
    async def generate(self, features: FeatureBlock, request: BlockRequest, state: PathState | None) -> GeneratedBlock:
        """Return the target landmarks and exemplars of one block of output frames."""

        def work(stop: Stop) -> GeneratedBlock:
            avatar = self._avatars.take(request.avatar_dir, lambda: Avatar.load(request.avatar_dir))
            try:
                mouth = self._speech_to_mouth.predict(
                    features, request.source.info.fps, request.first_frame, request.num_frames
                )
                index = self._source_indices(avatar, request)
                drive, new_state = avatar.plan(mouth, index, request.first_frame, state)
                return GeneratedBlock(drive, new_state, measure_block(avatar, mouth, drive))
            finally:
                self._avatars.put(request.avatar_dir, avatar)

        return await self._threads.run(work, self._config.jobs.call_timeout_s(request.num_frames))

    async def ready(self) -> bool:
        """True once the networks are loaded."""
        return True

    async def check_health(self) -> None:
        """Fail while work hangs; Serve then replaces the replica."""
        self._threads.check()

    def _calibration(self, avatar: Avatar, speech: FeatureBlock | None) -> MouthCalibration:
        if speech is None:
            return MouthCalibration.of_talker() if avatar.talks else MouthCalibration.default()
        num_rows = min(math.floor(speech.stop_seconds * ROWS_PER_SECOND), speech.first_row + len(speech.features))
        sound = self._speech_to_mouth.predict(speech, Fraction(ROWS_PER_SECOND), 0, max(1, num_rows))
        return calibrate_on_sound(avatar.track, avatar.talks, avatar.info.fps, sound)

    def _open(self, source: SourceVideo, timeout_s: float) -> DecoderReader:
        settings = FrameSettings.of(self._config, self._num_threads, timeout_s)
        return DecoderReader(self._decoders, source.path, source.info, settings)

    def _source_indices(self, avatar: Avatar, request: BlockRequest) -> NDArray[np.int32]:
        frames = range(request.first_frame, request.first_frame + request.num_frames)
        # The first frame of a moving still is the still itself.
        is_frozen = avatar.info.is_still and not self._config.render.still_idle_motion
        num_source = 1 if is_frozen else avatar.info.num_frames
        return np.array([source_index(i, num_source, request.loop) for i in frames], np.int32)
