"""Stages that do nothing; a test overrides those that it expects to be asked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

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
from media.playback import AfterEnd
from media.probe import VideoInfo
from models.engines.protocol import FrameSpan
from models.face.choice import FaceChoice
from models.people.scan import ScanState
from models.track.tracker import TrackState
from storage.cues import SpokenCue
from telemetry.log_context import CallContext


class NoStages:
    """Implements `jobs.ports.Stages`."""

    async def probe(self, context: CallContext, video: str | None, audio: str | None) -> ProbeResult:
        raise AssertionError("nothing is probed here")

    async def speak(
        self, context: CallContext, text: str, voice: str | None, owner: str | None, folder: str
    ) -> SpokenCue:
        raise AssertionError("nothing is spoken here")

    async def record_speech(self, context: CallContext, cues: Sequence[PlacedCue], out: str) -> RecordedSpeech:
        raise AssertionError("nothing is recorded here")

    async def choose_voices(
        self, context: CallContext, requests: Sequence[VoiceRequest], language: str | None
    ) -> ChosenVoices:
        raise AssertionError("no voices are chosen here")

    async def prepare_speech(
        self, context: CallContext, parts: Sequence[AudioPart[str]], speech: str, claimed_seconds: float
    ) -> PreparedSpeech:
        raise AssertionError("no speech is prepared here")

    async def reference(self, context: CallContext, picture: str) -> FaceChoice:
        raise AssertionError("no picture is looked at here")

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
        raise AssertionError("nothing is tracked here")

    async def scan_people(
        self, context: CallContext, source: SourceVideo, start: int, stop: int, state: ScanState | None, out: str
    ) -> ScanState:
        raise AssertionError("nobody is looked for here")

    async def predict_source_mouth(
        self, context: CallContext, speech: PreparedSpeech, span: FrameSpan, out: str
    ) -> None:
        raise AssertionError("no source is heard here")

    async def find_people(
        self, context: CallContext, folder: str, source: SourceVideo, scans: Sequence[str], mouths: Sequence[str]
    ) -> None:
        raise AssertionError("nobody is looked for here")

    async def find_screen(self, context: CallContext, source: SourceVideo, is_expected: bool) -> ScreenColour | None:
        raise AssertionError("no screen is looked for here")

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
        raise AssertionError("no matte is made here")

    async def join_matte(
        self, context: CallContext, avatar: AvatarRef, part: str, screen: ScreenColour | None, pieces: Sequence[str]
    ) -> None:
        raise AssertionError("no matte is joined here")

    async def build_avatar(self, context: CallContext, avatar: AvatarRef, tracks: Sequence[str]) -> bool:
        raise AssertionError("no avatar is built here")

    async def is_analysed(self, context: CallContext, engine: str, avatar: AvatarRef) -> bool:
        raise AssertionError("no avatar is looked at here")

    async def analyse(
        self, context: CallContext, engine: str, avatar: AvatarRef, source_speech: PreparedSpeech | None
    ) -> None:
        raise AssertionError("no avatar is analysed here")

    async def plan(self, context: CallContext, speech: PreparedSpeech, request: BlockRequest, state: Any) -> ShownBlock:
        raise AssertionError("nothing is planned here")

    async def crop_path(self, context: CallContext, request: CropRequest) -> NDArray[np.float32]:
        raise AssertionError("nothing is cropped here")

    async def copyable_keys(self, context: CallContext, source: SourceVideo) -> list[int]:
        raise AssertionError("nothing is copied here")

    async def render(
        self, context: CallContext, request: SegmentRequest, out: str, watermark: SegmentWatermark
    ) -> RenderedSegment:
        raise AssertionError("nothing is rendered here")

    async def fit_background(
        self, context: CallContext, background: SourceVideo, shown: VideoInfo, after_end: AfterEnd, out: str
    ) -> str:
        raise AssertionError("no background is fitted here")

    async def join(
        self,
        context: CallContext,
        segments: Sequence[str],
        speech: Sequence[AudioPart[str]],
        out: str,
        source: SourceVideo,
        output: OutputInfo,
    ) -> None:
        raise AssertionError("nothing is joined here")

    async def ready(self) -> bool:
        return True
