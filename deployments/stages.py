"""The Director's view of the other stages: each request with its bound, ready to be awaited."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ray.serve.handle import DeploymentHandle

from config import PipelineConfig
from deployments.audio_features import PreparedSpeech
from deployments.calls import CallBounds, Sent, call_stage
from deployments.landmark_generator import BlockRequest, GeneratedBlock, SourceVideo, Tracked
from deployments.log_context import Work
from deployments.studio import Probed
from models.drive import Drive
from models.exemplar_path import PathState
from models.face_choice import FaceChoice
from models.face_track import RawLandmarks, TrackState

_READY = CallBounds(work_s=5.0, max_attempts=1, max_wait_s=1.0)


@dataclass(frozen=True)
class Stages:
    """Handles of the stages behind the Director."""

    config: PipelineConfig
    audio_features: DeploymentHandle[Any]
    landmark_generator: DeploymentHandle[Any]
    studio: DeploymentHandle[Any]

    async def probe(self, work: Work, video: Path | None, audio: Path | None) -> Probed:
        """See `Studio.probe`."""
        probed: Probed = await self._call(
            "Studio.probe", work, 0, lambda work: self.studio.probe.remote(work, video, audio)
        )
        return probed

    async def prepare_speech(self, work: Work, audio: Path, speech: Path, duration_seconds: float) -> PreparedSpeech:
        """See `AudioFeatures.prepare`; `duration_seconds` of `audio` bounds the wait."""
        prepared: PreparedSpeech = await self._call(
            "AudioFeatures.prepare",
            work,
            int(duration_seconds),
            lambda work: self.audio_features.prepare.remote(work, audio, speech),
        )
        return prepared

    async def track(
        self, work: Work, source: SourceVideo, choice: FaceChoice, start: int, stop: int, state: TrackState | None
    ) -> Tracked:
        """See `LandmarkGenerator.track`."""
        tracked: Tracked = await self._call(
            "LandmarkGenerator.track",
            work,
            stop - start,
            lambda work: self.landmark_generator.track.remote(work, source, choice, start, stop, state),
        )
        return tracked

    async def reference(self, work: Work, picture: Path) -> FaceChoice:
        """See `LandmarkGenerator.reference`."""
        choice: FaceChoice = await self._call(
            "LandmarkGenerator.reference", work, 1, lambda work: self.landmark_generator.reference.remote(work, picture)
        )
        return choice

    async def build_avatar(
        self,
        work: Work,
        source: SourceVideo,
        chunks: Sequence[RawLandmarks],
        speech: tuple[Path, PreparedSpeech] | None,
        avatar_dir: Path,
    ) -> bool:
        """See `LandmarkGenerator.build_avatar`; `speech` is the source's own prepared sound, if it has any."""

        def start(work: Work) -> Sent:
            build = self.landmark_generator.build_avatar
            if speech is None:
                return build.remote(work, source, chunks, None, avatar_dir)
            path, prepared = speech
            seconds = min(source.info.duration_seconds, self.config.render.block_seconds * 2)
            features = self.audio_features.extract.remote(work, path, prepared.level, 0.0, seconds)
            return features, build.remote(work, source, chunks, features, avatar_dir)

        talks: bool = await self._call("LandmarkGenerator.build_avatar", work, source.info.num_frames, start)
        return talks

    async def generate(
        self, work: Work, speech: Path, prepared: PreparedSpeech, request: BlockRequest, state: PathState | None
    ) -> GeneratedBlock:
        """Chain AudioFeatures.extract -> LandmarkGenerator.generate; the features do not pass through here."""
        fps = request.source.info.fps
        start_seconds = float(request.first_frame / fps)
        stop_seconds = float((request.first_frame + request.num_frames) / fps)

        def start(work: Work) -> Sent:
            features = self.audio_features.extract.remote(work, speech, prepared.level, start_seconds, stop_seconds)
            return features, self.landmark_generator.generate.remote(work, features, request, state)

        block: GeneratedBlock = await self._call("LandmarkGenerator.generate", work, request.num_frames, start)
        return block

    async def render(self, work: Work, avatar_dir: Path, source: SourceVideo, drive: Drive, engine: str) -> bytes:
        """See `Studio.render`."""
        segment: bytes = await self._call(
            "Studio.render",
            work,
            len(drive),
            lambda work: self.studio.render.remote(work, avatar_dir, source, drive, engine),
        )
        return segment

    async def join(
        self, work: Work, segments: Sequence[Path], audio: Path, out: Path, source: SourceVideo, num_frames: int
    ) -> None:
        """See `Studio.join`."""
        await self._call(
            "Studio.join",
            work,
            num_frames,
            lambda work: self.studio.join.remote(work, segments, audio, out, source, num_frames),
        )

    async def ready(self) -> bool:
        """True when each stage answers."""
        for handle in (self.audio_features, self.landmark_generator, self.studio):
            await call_stage("ready", Work(""), lambda _, handle=handle: handle.ready.remote(), _READY)  # type: ignore[misc]
        return True

    async def _call(self, stage: str, work: Work, num_frames: int, start: Callable[[Work], Sent]) -> Any:
        return await call_stage(stage, work, start, CallBounds.of(self.config.jobs, num_frames))
