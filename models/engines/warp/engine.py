"""The warp engine: mouth images of the avatar, warped to target landmarks. It needs no third-party weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from lipwright.media.kept_squares import SquareReader
from lipwright.media.yuv_frame import YuvFrame
from models.avatar.avatar import Avatar
from models.avatar.mouth_calibration import MouthCalibration, calibrate_on_sound
from models.engines.base import EngineOptions, read_options
from models.engines.protocol import (
    SOURCE_AUDIO_FPS,
    ComputeResources,
    EngineSettings,
    FrameSpan,
    PlannedBlock,
    WeightsSpec,
)
from models.engines.warp.avatar import WarpAvatar, save_calibration
from models.engines.warp.chunk import FaceChunk
from models.engines.warp.crop import crop_faces
from models.engines.warp.exemplar_path import PathState
from models.engines.warp.generator import WarpFaceGenerator
from models.engines.warp.measures import measure_block
from models.engines.warp.plan import MouthPlan, plan_ahead, plan_block
from models.mouth.closures import closed_share
from models.speech.features import FeatureBlock, SpeechFeatures
from models.speech.level import SpeechLevel
from models.speech.speech_to_mouth import MouthBlock, SpeechToMouth
from models.speech.stream import SpeechWindow


class WarpOptions(EngineOptions):
    """Options of the warp engine."""

    max_bank_frames: int = Field(1500, ge=1, description="Source frames kept as mouth exemplars for one avatar.")


class WarpAudioEncoder:
    """The speech encoder. Implements `protocol.AudioEncoder` and `LiveAudioEncoder`."""

    def __init__(self, resources: ComputeResources) -> None:
        self._features = SpeechFeatures(num_threads=resources.num_threads, device=resources.device)
        self._features.warm()

    def encode(
        self, speech: Path, level: SpeechLevel, span: FrameSpan, should_stop: Callable[[], bool] = lambda: False
    ) -> FeatureBlock:
        """Return the features of `span`, with the context that the network needs."""
        return self._features.extract(speech, level, span.start_seconds, span.stop_seconds, should_stop)

    def encode_live(self, window: SpeechWindow) -> FeatureBlock:
        """Return the features of the frames of `window` and of its look-ahead."""
        return self._features.extract_window(window)


class WarpEngine:
    """Implements `models.engines.protocol.Engine`. A plan holds target landmarks and exemplars of the source."""

    title: ClassVar[str] = "Real mouths of the avatar, warped; no weights"
    weights: ClassVar[tuple[WeightsSpec, ...]] = ()
    name = "warp"
    version = "31"
    audio_features = "whisper-base"
    uses_source_audio = True
    scales_movement = True
    speech_context_seconds = 8.0  # a window of 5 s with 1 s of context, and the pause around a block
    look_ahead_frames = 4  # 160 ms at 25 fps, of 240 ms of audio look-ahead

    def __init__(self, settings: EngineSettings) -> None:
        self._options = read_options(WarpOptions, self.name, settings.options)
        self._num_threads = settings.num_threads

    @cached_property
    def _speech_to_mouth(self) -> SpeechToMouth:
        return SpeechToMouth(num_threads=self._num_threads)

    def audio_encoder(self, resources: ComputeResources) -> WarpAudioEncoder:
        """Load the speech encoder."""
        return WarpAudioEncoder(resources)

    def live_audio_encoder(self, resources: ComputeResources) -> WarpAudioEncoder:
        """Load the speech encoder."""
        return WarpAudioEncoder(resources)

    def face_generator(self, resources: ComputeResources) -> WarpFaceGenerator:
        """Create the renderer for the device."""
        return WarpFaceGenerator(resources.device)

    def analyse(
        self,
        avatar: Avatar,
        frames: SquareReader,
        source_audio_features: FeatureBlock | None,
        should_stop: Callable[[], bool],
    ) -> None:
        """Collect exemplars and calibrate the mouth on the source's own speech."""
        folder = avatar.folder_of(self)
        warp_avatar = WarpAvatar.analyse(avatar, folder, frames, self._options.max_bank_frames, should_stop)
        save_calibration(self._calibration(warp_avatar, source_audio_features), folder)

    def plan(
        self,
        avatar: Avatar,
        features: FeatureBlock,
        span: FrameSpan,
        source_index: NDArray[np.int32],
        state: PathState | None,
    ) -> PlannedBlock[MouthPlan, PathState | None]:
        """Predict the mouth and plan target landmarks and exemplars."""
        warp_avatar = self._warp_avatar(avatar)
        mouth = self._mouth(avatar, features, span)
        plan, state = plan_block(warp_avatar, mouth, source_index, span.first, state)
        return PlannedBlock(plan, state, measure_block(warp_avatar, mouth, plan))

    def plan_live(
        self,
        avatar: Avatar,
        features: FeatureBlock,
        span: FrameSpan,
        source_index: NDArray[np.int32],
        state: PathState | None,
    ) -> tuple[MouthPlan, PathState | None]:
        """Plan the frames that are due; the look-ahead frames only affect the choice of exemplars."""
        mouth = self._mouth(avatar, features, span)
        num_kept = span.num - self.look_ahead_frames
        return plan_ahead(self._warp_avatar(avatar), mouth, source_index, span.first, state, num_kept)

    def crop(self, avatar: Avatar, plan: MouthPlan, frames: Sequence[YuvFrame]) -> FaceChunk:
        """Cut the face regions and exemplars of the frames."""
        return crop_faces(self._warp_avatar(avatar), plan, frames)

    def _mouth(self, avatar: Avatar, features: FeatureBlock, span: FrameSpan) -> MouthBlock:
        mouth = self._speech_to_mouth.predict(features, span.fps, span.first, span.num)
        closed = closed_share(avatar.closures, span.seconds, span.fps)
        return replace(mouth.scaled(avatar.expressiveness), smile=avatar.smile, closed=closed)

    def _warp_avatar(self, avatar: Avatar) -> WarpAvatar:
        return avatar.remember(self, lambda: WarpAvatar.load(avatar, avatar.folder_of(self)))

    def _calibration(self, warp_avatar: WarpAvatar, source_audio_features: FeatureBlock | None) -> MouthCalibration:
        if source_audio_features is None:
            return MouthCalibration.default()
        rate = Fraction(SOURCE_AUDIO_FPS)
        num_rows = round(source_audio_features.stop_seconds * rate)
        sound = self._speech_to_mouth.predict(source_audio_features, rate, 0, num_rows)
        return calibrate_on_sound(warp_avatar.track, warp_avatar.talks, warp_avatar.info.fps, sound)
