"""Implements `lipwright.jobs.ports.Stages` with the handles of the deployments, a timeout for each call."""

from __future__ import annotations

import math
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from fractions import Fraction
from functools import update_wrapper
from typing import Any, Concatenate, ParamSpec, TypeVar

from ray.serve.handle import DeploymentHandle

from deployments.runtime.calls import CallBounds, Sent, call_stage
from lipwright.config import PipelineConfig
from lipwright.jobs.messages import AvatarRef, BlockRequest, PreparedSpeech, ShownBlock, num_frames_of
from lipwright.jobs.ports import Stages
from lipwright.media.output.backgrounds import fitted_info
from lipwright.speech.cue_recorder import record_timeout_s
from lipwright.speech.cue_speaker import speak_timeout_s
from lipwright.speech.transcriber import transcribe_timeout_s, translate_timeout_s
from lipwright.telemetry.log_context import CallContext
from models.engines.protocol import SOURCE_AUDIO_FPS, FrameSpan
from models.engines.registry import MOUTH_ENGINE

P = ParamSpec("P")
T = TypeVar("T")

_READY = CallBounds(work_s=5.0, max_attempts=1, max_wait_s=1.0)


def _forward(
    method: Callable[Concatenate[Any, CallContext, P], Coroutine[Any, Any, T]],
    handle: str,
    num_frames: Callable[P, int] | None = None,
    work_s: Callable[Concatenate[PipelineConfig, P], float] | None = None,
) -> Callable[Concatenate[ServeStages, CallContext, P], Coroutine[Any, Any, T]]:
    """Return the same method of `ServeStages`, which calls the deployment of a handle.

    Args:
        method: The method of `Stages`.
        handle: Name of the attribute with the handle.
        num_frames: Returns the number of frames of a call, from which its timeout follows; default: none.
        work_s: Returns its timeout in seconds, if that does not depend on frames.
    """
    stage = f"{handle.title().replace('_', '')}.{method.__name__}"

    async def call(self: ServeStages, context: CallContext, /, *args: P.args, **kwargs: P.kwargs) -> T:
        send: Callable[..., Sent[T]] = getattr(getattr(self, handle), method.__name__).remote
        bounds = CallBounds.of(self.config.jobs, 0 if num_frames is None else num_frames(*args, **kwargs))
        if work_s is not None:
            bounds = CallBounds(work_s(self.config, *args, **kwargs), bounds.max_attempts, bounds.max_wait_s)
        return await call_stage(stage, context, lambda context: send(context, *args, **kwargs), bounds)

    return update_wrapper(call, method)


@dataclass(frozen=True)
class ServeStages:
    """Implements `lipwright.jobs.ports.Stages` with the handles of the deployments."""

    config: PipelineConfig
    media_probe: DeploymentHandle[Any]
    audio_features: DeploymentHandle[Any]
    landmark_generator: DeploymentHandle[Any]
    studio: DeploymentHandle[Any]
    speech_synthesis: DeploymentHandle[Any]

    probe = _forward(Stages.probe, "media_probe")
    speak = _forward(
        Stages.speak, "speech_synthesis", work_s=lambda config, text, voice, owner, folder: speak_timeout_s(config)
    )
    record_speech = _forward(
        Stages.record_speech, "speech_synthesis", work_s=lambda config, cues, out: record_timeout_s(config, cues)
    )
    transcribe = _forward(
        Stages.transcribe, "speech_synthesis", work_s=lambda config, video, owner: transcribe_timeout_s(config)
    )
    translate = _forward(
        Stages.translate, "speech_synthesis", work_s=lambda config, cues, language: translate_timeout_s(config, cues)
    )
    choose_voices = _forward(Stages.choose_voices, "speech_synthesis")
    prepare_speech = _forward(
        Stages.prepare_speech,
        "audio_features",
        work_s=lambda config, parts, speech, claimed_seconds: config.jobs.sound_timeout_s(claimed_seconds),
    )
    track = _forward(Stages.track, "landmark_generator", lambda source, choice, start, stop, state, out: stop - start)
    reference = _forward(Stages.reference, "landmark_generator", lambda picture: 1)
    scan_people = _forward(
        Stages.scan_people, "landmark_generator", lambda source, start, stop, state, out: stop - start
    )
    find_people = _forward(
        Stages.find_people, "landmark_generator", lambda folder, source, scans, mouths: source.info.num_frames
    )
    find_screen = _forward(Stages.find_screen, "landmark_generator", lambda source, is_expected: source.info.num_frames)
    matte = _forward(Stages.matte, "landmark_generator", lambda avatar, screen, start, stop, before, out: stop - start)
    join_matte = _forward(
        Stages.join_matte, "landmark_generator", lambda avatar, part, screen, pieces: avatar.source.info.num_frames
    )
    appearance = _forward(Stages.appearance, "landmark_generator", lambda avatar: avatar.source.info.num_frames)
    check_fit = _forward(
        Stages.check_fit,
        "landmark_generator",
        lambda clip, own: num_frames_of([clip]) + own.source.info.num_frames,
    )
    compose = _forward(Stages.compose, "landmark_generator", lambda parts, out: num_frames_of(parts))
    build_avatar = _forward(
        Stages.build_avatar, "landmark_generator", lambda avatar, tracks, cuts: avatar.source.info.num_frames
    )
    is_analysed = _forward(Stages.is_analysed, "landmark_generator")
    crop_path = _forward(Stages.crop_path, "landmark_generator")
    copyable_keys = _forward(Stages.copyable_keys, "studio", lambda source: source.info.num_frames)
    render = _forward(Stages.render, "studio", lambda request, out, watermark: len(request.source_index))
    fit_background = _forward(
        Stages.fit_background,
        "studio",
        lambda background, shown, after_end, out: fitted_info(background.info, shown, after_end).num_frames,
    )
    join = _forward(Stages.join, "studio", lambda segments, speech, out, source, output: output.num_frames)

    async def predict_source_mouth(
        self, context: CallContext, speech: PreparedSpeech, span: FrameSpan, out: str
    ) -> None:
        """Chain AudioFeatures.extract -> LandmarkGenerator.predict_source_mouth."""

        def start(context: CallContext) -> Sent[Any]:
            features = self.audio_features.extract.remote(context, MOUTH_ENGINE, speech, span)
            return features, self.landmark_generator.predict_source_mouth.remote(context, features, speech, span, out)

        await self._call("LandmarkGenerator.predict_source_mouth", context, span.num, start)

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

    async def ready(self) -> bool:
        """Return True once every stage has answered."""
        stages = self.media_probe, self.audio_features, self.landmark_generator, self.studio, self.speech_synthesis
        for handle in stages:
            await call_stage("ready", CallContext(""), lambda _, handle=handle: handle.ready.remote(), _READY)  # type: ignore[misc]
        return True

    async def _call(
        self, stage: str, context: CallContext, num_frames: int, start: Callable[[CallContext], Sent[T]]
    ) -> T:
        return await call_stage(stage, context, start, CallBounds.of(self.config.jobs, num_frames))
