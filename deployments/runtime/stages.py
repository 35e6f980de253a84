"""Implements `jobs.ports.Stages` with the handles of the deployments, a timeout for each call."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from ray.serve.handle import DeploymentHandle

from config import PipelineConfig
from deployments.runtime.calls import CallBounds, Sent, call_stage
from jobs.messages import (
    AvatarRef,
    BlockRequest,
    CropRequest,
    OutputInfo,
    PreparedSpeech,
    ProbeResult,
    RenderedSegment,
    SegmentRequest,
    SegmentWatermark,
    ShownBlock,
    SourceVideo,
)
from jobs.speech_messages import ChosenVoices, PlacedCue, RecordedSpeech, VoiceRequest
from media.audio_parts import AudioPart
from media.matte.foreground import ScreenColour
from media.output.fitted_background import fitted_info
from media.playback import AfterEnd
from media.probe import VideoInfo
from models.engines.protocol import SOURCE_AUDIO_FPS, FrameSpan
from models.engines.registry import MOUTH_ENGINE
from models.face.choice import FaceChoice
from models.people.scan import ScanState
from models.track.tracker import TrackState
from speech.cue_recorder import record_timeout_s
from speech.cue_speaker import speak_timeout_s
from storage.cues import SpokenCue
from telemetry.log_context import CallContext

T = TypeVar("T")

_READY = CallBounds(work_s=5.0, max_attempts=1, max_wait_s=1.0)


@dataclass(frozen=True)
class ServeStages:
    """Implements `jobs.ports.Stages` with the handles of the deployments."""

    config: PipelineConfig
    media_probe: DeploymentHandle[Any]
    audio_features: DeploymentHandle[Any]
    landmark_generator: DeploymentHandle[Any]
    studio: DeploymentHandle[Any]
    speech_synthesis: DeploymentHandle[Any]

    async def probe(self, context: CallContext, video: str | None, audio: str | None) -> ProbeResult:
        return await self._call(
            "MediaProbe.probe", context, 0, lambda context: self.media_probe.probe.remote(context, video, audio)
        )

    async def speak(
        self, context: CallContext, text: str, voice: str | None, owner: str | None, folder: str
    ) -> SpokenCue:
        return await self._speech(
            "SpeechSynthesis.speak",
            context,
            speak_timeout_s(self.config),
            lambda context: self.speech_synthesis.speak.remote(context, text, voice, owner, folder),
        )

    async def record_speech(self, context: CallContext, cues: Sequence[PlacedCue], out: str) -> RecordedSpeech:
        return await self._speech(
            "SpeechSynthesis.record_speech",
            context,
            record_timeout_s(self.config, cues),
            lambda context: self.speech_synthesis.record_speech.remote(context, cues, out),
        )

    async def choose_voices(
        self, context: CallContext, requests: Sequence[VoiceRequest], language: str | None
    ) -> ChosenVoices:
        return await self._call(
            "SpeechSynthesis.choose_voices",
            context,
            0,
            lambda context: self.speech_synthesis.choose_voices.remote(context, requests, language),
        )

    async def prepare_speech(
        self, context: CallContext, parts: Sequence[AudioPart[str]], speech: str, claimed_seconds: float
    ) -> PreparedSpeech:
        return await self._speech(
            "AudioFeatures.prepare",
            context,
            self.config.jobs.sound_timeout_s(claimed_seconds),
            lambda context: self.audio_features.prepare.remote(context, parts, speech, claimed_seconds),
        )

    async def track(
        self,
        context: CallContext,
        source: SourceVideo,
        choice: FaceChoice,
        start: int,
        stop: int,
        state: TrackState | None,
        out: str,
    ) -> TrackState:
        return await self._call(
            "LandmarkGenerator.track",
            context,
            stop - start,
            lambda context: self.landmark_generator.track.remote(context, source, choice, start, stop, state, out),
        )

    async def reference(self, context: CallContext, picture: str) -> FaceChoice:
        return await self._call(
            "LandmarkGenerator.reference",
            context,
            1,
            lambda context: self.landmark_generator.reference.remote(context, picture),
        )

    async def scan_people(
        self, context: CallContext, source: SourceVideo, start: int, stop: int, state: ScanState | None, out: str
    ) -> ScanState:
        return await self._call(
            "LandmarkGenerator.scan_people",
            context,
            stop - start,
            lambda context: self.landmark_generator.scan_people.remote(context, source, start, stop, state, out),
        )

    async def predict_source_mouth(
        self, context: CallContext, speech: PreparedSpeech, span: FrameSpan, out: str
    ) -> None:
        """Chain AudioFeatures.extract -> LandmarkGenerator.predict_source_mouth."""

        def start(context: CallContext) -> Sent[Any]:
            features = self.audio_features.extract.remote(context, MOUTH_ENGINE, speech, span)
            return features, self.landmark_generator.predict_source_mouth.remote(context, features, speech, span, out)

        await self._call("LandmarkGenerator.predict_source_mouth", context, span.num, start)

    async def find_people(
        self, context: CallContext, folder: str, source: SourceVideo, scans: Sequence[str], mouths: Sequence[str]
    ) -> None:
        await self._call(
            "LandmarkGenerator.find_people",
            context,
            source.info.num_frames,
            lambda context: self.landmark_generator.find_people.remote(context, folder, source, scans, mouths),
        )

    async def find_screen(self, context: CallContext, source: SourceVideo, is_expected: bool) -> ScreenColour | None:
        return await self._call(
            "LandmarkGenerator.find_screen",
            context,
            source.info.num_frames,
            lambda context: self.landmark_generator.find_screen.remote(context, source, is_expected),
        )

    async def matte(
        self,
        context: CallContext,
        avatar: AvatarRef,
        screen: ScreenColour | None,
        start: int,
        stop: int,
        before: str | None,
        out: str,
    ) -> None:
        await self._call(
            "LandmarkGenerator.matte",
            context,
            stop - start,
            lambda context: self.landmark_generator.matte.remote(context, avatar, screen, start, stop, before, out),
        )

    async def join_matte(
        self, context: CallContext, avatar: AvatarRef, part: str, screen: ScreenColour | None, pieces: Sequence[str]
    ) -> None:
        await self._call(
            "LandmarkGenerator.join_matte",
            context,
            avatar.source.info.num_frames,
            lambda context: self.landmark_generator.join_matte.remote(context, avatar, part, screen, pieces),
        )

    async def build_avatar(self, context: CallContext, avatar: AvatarRef, tracks: Sequence[str]) -> bool:
        return await self._call(
            "LandmarkGenerator.build_avatar",
            context,
            avatar.source.info.num_frames,
            lambda context: self.landmark_generator.build_avatar.remote(context, avatar, tracks),
        )

    async def is_analysed(self, context: CallContext, engine: str, avatar: AvatarRef) -> bool:
        return await self._call(
            "LandmarkGenerator.is_analysed",
            context,
            0,
            lambda context: self.landmark_generator.is_analysed.remote(context, engine, avatar),
        )

    async def analyse(
        self, context: CallContext, engine: str, avatar: AvatarRef, source_speech: PreparedSpeech | None
    ) -> None:
        """Chain AudioFeatures.extract_from_source -> LandmarkGenerator.analyse; features do not pass here."""
        seconds = min(avatar.source.info.duration_seconds, self.config.render.block_seconds * 2)
        num = max(1, math.floor(seconds * SOURCE_AUDIO_FPS))
        span = FrameSpan(Fraction(SOURCE_AUDIO_FPS), 0, num, num)

        def start(context: CallContext) -> Sent[Any]:
            analyse = self.landmark_generator.analyse
            if source_speech is None:
                return analyse.remote(context, None, engine, avatar)
            features = self.audio_features.extract_from_source.remote(context, engine, source_speech, span)
            return features, analyse.remote(context, features, engine, avatar)

        await self._call("LandmarkGenerator.analyse", context, avatar.source.info.num_frames, start)

    async def plan(
        self, context: CallContext, speech: PreparedSpeech, request: BlockRequest, state: object
    ) -> ShownBlock:
        """Chain AudioFeatures.extract -> LandmarkGenerator.plan; the features do not pass through here."""

        def start(context: CallContext) -> Sent[Any]:
            features = self.audio_features.extract.remote(context, request.engine, speech, request.span)
            return features, self.landmark_generator.plan.remote(context, features, request, state)

        return await self._call("LandmarkGenerator.plan", context, request.span.num, start)

    async def crop_path(self, context: CallContext, request: CropRequest) -> NDArray[np.float32]:
        return await self._call(
            "LandmarkGenerator.crop_path",
            context,
            0,
            lambda context: self.landmark_generator.crop_path.remote(context, request),
        )

    async def copyable_keys(self, context: CallContext, source: SourceVideo) -> list[int]:
        return await self._call(
            "Studio.copyable_keys",
            context,
            source.info.num_frames,
            lambda context: self.studio.copyable_keys.remote(context, source),
        )

    async def render(
        self, context: CallContext, request: SegmentRequest, out: str, watermark: SegmentWatermark
    ) -> RenderedSegment:
        return await self._call(
            "Studio.render",
            context,
            len(request.source_index),
            lambda context: self.studio.render.remote(context, request, out, watermark),
        )

    async def fit_background(
        self, context: CallContext, background: SourceVideo, shown: VideoInfo, after_end: AfterEnd, out: str
    ) -> str:
        return await self._call(
            "Studio.fit_background",
            context,
            fitted_info(background.info, shown, after_end).num_frames,
            lambda context: self.studio.fit_background.remote(context, background, shown, after_end, out),
        )

    async def join(
        self,
        context: CallContext,
        segments: Sequence[str],
        speech: Sequence[AudioPart[str]],
        out: str,
        source: SourceVideo,
        output: OutputInfo,
    ) -> None:
        await self._call(
            "Studio.join",
            context,
            output.num_frames,
            lambda context: self.studio.join.remote(context, segments, speech, out, source, output),
        )

    async def ready(self) -> bool:
        """Return True once every stage has answered."""
        stages = self.media_probe, self.audio_features, self.landmark_generator, self.studio, self.speech_synthesis
        for handle in stages:
            await call_stage("ready", CallContext(""), lambda _, handle=handle: handle.ready.remote(), _READY)  # type: ignore[misc]
        return True

    async def _speech(
        self, stage: str, context: CallContext, work_s: float, start: Callable[[CallContext], Sent[T]]
    ) -> T:
        jobs = self.config.jobs
        return await call_stage(stage, context, start, CallBounds(work_s, jobs.max_attempts, jobs.max_stage_wait_s))

    async def _call(
        self, stage: str, context: CallContext, num_frames: int, start: Callable[[CallContext], Sent[T]]
    ) -> T:
        return await call_stage(stage, context, start, CallBounds.of(self.config.jobs, num_frames))
