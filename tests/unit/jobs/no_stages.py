"""Stages that do nothing; a test overrides those that it expects to be asked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from jobs.messages import (
    AvatarRef,
    BlockRequest,
    OutputInfo,
    PreparedSpeech,
    Probed,
    Rendered,
    SegmentWatermark,
    SourceVideo,
)
from models.engines.protocol import Plan, Planned
from models.face.choice import FaceChoice
from models.track.state import TrackState
from telemetry.log_context import Work


class NoStages:
    """Implements `jobs.ports.Stages`."""

    async def probe(self, work: Work, video: str | None, audio: str | None) -> Probed:
        raise AssertionError("nothing is probed here")

    async def prepare_speech(self, work: Work, audio: str, speech: str, claimed_seconds: float) -> PreparedSpeech:
        raise AssertionError("no speech is prepared here")

    async def reference(self, work: Work, picture: str) -> FaceChoice:
        raise AssertionError("no picture is looked at here")

    async def track(
        self,
        work: Work,
        source: SourceVideo,
        choice: FaceChoice,
        start: int,
        stop: int,
        state: TrackState | None,
        out: str,
    ) -> TrackState:
        raise AssertionError("nothing is tracked here")

    async def build_avatar(self, work: Work, avatar: AvatarRef, tracks: Sequence[str]) -> bool:
        raise AssertionError("no avatar is built here")

    async def is_analysed(self, work: Work, engine: str, avatar: AvatarRef) -> bool:
        raise AssertionError("no avatar is looked at here")

    async def analyse(self, work: Work, engine: str, avatar: AvatarRef, own_speech: PreparedSpeech | None) -> None:
        raise AssertionError("no avatar is analysed here")

    async def plan(self, work: Work, speech: PreparedSpeech, request: BlockRequest, state: Any) -> Planned:
        raise AssertionError("nothing is planned here")

    async def render(
        self, work: Work, avatar: AvatarRef, engine: str, plan: Plan, out: str, watermark: SegmentWatermark
    ) -> Rendered:
        raise AssertionError("nothing is rendered here")

    async def join(
        self, work: Work, segments: Sequence[str], audio: str, out: str, source: SourceVideo, output: OutputInfo
    ) -> None:
        raise AssertionError("nothing is joined here")

    async def ready(self) -> bool:
        return True
