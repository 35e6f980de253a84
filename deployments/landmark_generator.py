"""LandmarkGenerator: source frames -> face track and avatar (once); speech features x avatar -> target landmarks."""

from __future__ import annotations

import asyncio
import math
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from ray import serve

from config import PipelineConfig
from deployments.replica import Loaded, assigned_device, claim_threads, run_stoppable
from media.playback import Loop, source_index
from media.probe import VideoInfo
from media.reader import FrameReader
from models.avatar import Avatar
from models.drive import Drive
from models.exemplar_path import PathState
from models.face_choice import FaceChoice
from models.face_track import FaceTracker, RawLandmarks, TrackState
from models.mouth_calibration import MouthCalibration, calibrate
from models.speech_features import FeatureBlock
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
    """Target landmarks of one block of output frames, and what the next block continues from."""

    drive: Drive
    state: PathState | None


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
        self._readers: Loaded[tuple[Path, int], FrameReader] = Loaded(4, FrameReader.close)
        self._avatars: Loaded[Path, Avatar] = Loaded(8)

    async def track(
        self, source: SourceVideo, choice: FaceChoice, start: int, stop: int, state: TrackState | None
    ) -> Tracked:
        """Find landmarks in source frames [start, stop), continuing from `state` (None at the first frame).

        Raises:
            FaceNotFoundError: The first frames hold no face of that choice.
            MediaError: The video cannot be decoded.
        """

        def work() -> Tracked:
            key = (source.path, start)
            reader = self._readers.take(key, lambda: self._open(source))
            try:
                frames = reader.read(range(start, stop))
                raw, new_state = self._tracker.track_chunk(frames, source.info.colour, choice, state)
            except BaseException:
                reader.close()
                raise
            self._readers.put((source.path, stop), reader)
            return Tracked(raw, new_state)

        return await asyncio.to_thread(work)

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

        def work(stop: threading.Event) -> bool:
            raw = RawLandmarks.concatenate(chunks)
            with self._open(source) as reader:
                avatar = Avatar.build(
                    avatar_dir, source.info, raw, reader, self._config.render.max_bank_frames, stop.is_set
                )
            avatar.save_calibration(self._calibration(avatar, speech))
            return avatar.talks

        return await run_stoppable(work)

    async def generate(self, features: FeatureBlock, request: BlockRequest, state: PathState | None) -> GeneratedBlock:
        """Return the target landmarks and exemplars of one block of output frames."""

        def work() -> GeneratedBlock:
            avatar = self._avatars.take(request.avatar_dir, lambda: Avatar.load(request.avatar_dir))
            try:
                mouth = self._speech_to_mouth.predict(
                    features, request.source.info.fps, request.first_frame, request.num_frames
                )
                index = self._source_indices(request)
                return GeneratedBlock(*avatar.plan(mouth, index, request.first_frame, state))
            finally:
                self._avatars.put(request.avatar_dir, avatar)

        return await asyncio.to_thread(work)

    async def ready(self) -> bool:
        """True once the networks are loaded."""
        return True

    def _calibration(self, avatar: Avatar, speech: FeatureBlock | None) -> MouthCalibration:
        if not avatar.talks:
            return MouthCalibration.default()
        if speech is None:
            return MouthCalibration.of_talker()
        fps = avatar.info.fps
        num_frames = min(avatar.info.num_frames, math.floor(speech.stop_seconds * fps))
        own = self._speech_to_mouth.predict(speech, fps, 0, num_frames)
        has_speech = avatar.track.present[:num_frames] & (own.gate > 0.5)
        return calibrate(own.shape, avatar.track.shape[:num_frames], has_speech)

    def _open(self, source: SourceVideo) -> FrameReader:
        cache_bytes, limits = self._config.render.reader_cache_bytes, self._config.limits
        return FrameReader(source.path, source.info, cache_bytes, num_threads=self._num_threads, limits=limits)

    def _source_indices(self, request: BlockRequest) -> NDArray[np.int32]:
        frames = range(request.first_frame, request.first_frame + request.num_frames)
        num_source = request.source.info.num_frames
        return np.array([source_index(i, num_source, request.loop) for i in frames], np.int32)
