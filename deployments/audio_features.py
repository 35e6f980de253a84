"""AudioFeatures: the caller's audio -> 16 kHz speech -> features of an engine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any

from ray import serve

from deployments.runtime.model_cache import ModelCache
from deployments.runtime.replica import GRACE_S, StageReplica, free_gpu_memory, make_decoders, stage_method
from lipwright.config import PipelineConfig
from lipwright.jobs.messages import BlockFeatures, PreparedSpeech
from lipwright.media.audio import extract_speech
from lipwright.media.audio_parts import AudioPart, extract_parts
from lipwright.media.cancel_token import CancelToken
from lipwright.storage.state import open_files
from models.engines.catalog import EngineCatalog
from models.engines.protocol import AudioEncoder, Engine, EngineClass, FrameSpan
from models.engines.registry import ENGINES
from models.speech.level import measure_level
from models.speech.prosody import file_prosody


@serve.deployment(graceful_shutdown_timeout_s=GRACE_S)
class AudioFeatures(StageReplica):
    """Holds the audio encoders of engines; a call is one block of speech, or `Stages.prepare_speech`."""

    def __init__(self, config: PipelineConfig, engines: Mapping[str, str | EngineClass] = ENGINES) -> None:
        """Load the default engine's audio encoder, so that the first job does not wait for it."""
        super().__init__("AudioFeatures", config)
        self._files = open_files(config)
        self._decoders = make_decoders(config)
        self._resources = self._claim_resources(config)
        self._engines = EngineCatalog(config, self._resources.num_threads, engines)
        default = self._engines.engine(config.engine)
        self._audio_encoders: ModelCache[AudioEncoder] = ModelCache(
            "AudioFeatures", config.engine_cache, default.audio_features, free_gpu_memory
        )
        self._audio_encoders.put(default.audio_features, default.audio_encoder(self._resources))

    @stage_method
    async def prepare_speech(
        self, parts: Sequence[AudioPart[str]], speech: str, claimed_seconds: float
    ) -> PreparedSpeech:
        limits = self._config.limits
        timeout_s = self._config.jobs.sound_timeout_s(min(claimed_seconds, limits.max_audio_seconds))

        def decode(token: CancelToken) -> PreparedSpeech:
            with ExitStack() as fetched, self._files.written(speech) as out:
                files = {part.file: fetched.enter_context(self._files.fetched(part.file)) for part in parts}
                placed = [part.of_file(files[part.file]) for part in parts]
                work = partial(extract_parts, placed, out, limits, claimed_seconds)
                if placed[0].is_whole_track and len(placed) == 1:
                    work = partial(extract_speech, placed[0].file, out, limits, placed[0].speed)
                file, *others = files.values()
                info = self._decoders.run(
                    work, file=file, timeout_s=timeout_s, token=token, reads=others, writes=out.parent
                )
                return PreparedSpeech(speech, info, measure_level(out))

        return await self._threads.run(decode, timeout_s)

    @stage_method
    async def extract(self, engine: str, speech: PreparedSpeech, span: FrameSpan) -> BlockFeatures:
        """Return an engine's features of the frames of `span`, and the prosody of the speech.

        Raises:
            OptionError: There is no engine of that name.
            WeightsError: Its weights are missing or wrong.
        """
        return await self._encode(engine, speech, span)

    @stage_method
    async def extract_from_source(self, engine: str, speech: PreparedSpeech, span: FrameSpan) -> Any | None:
        """Return an engine's features of a source's own audio; None if its analysis does not use them."""
        if not (await self._engine(engine)).uses_source_audio:
            return None
        return (await self._encode(engine, speech, span)).features

    async def check_health(self) -> None:
        """Raise while work hangs, and drop idle networks."""
        await super().check_health()
        self._audio_encoders.sweep()

    async def _encode(self, name: str, speech: PreparedSpeech, span: FrameSpan) -> BlockFeatures:
        engine = await self._engine(name)
        async with self._audio_encoders.use(
            engine.audio_features, lambda: engine.audio_encoder(self._resources)
        ) as audio_encoder:

            def work(token: CancelToken) -> BlockFeatures:
                with self._files.fetched(speech.key) as path:
                    features = audio_encoder.encode(path, speech.level, span, token.is_cancelled)
                    return BlockFeatures(features, file_prosody(path, speech.level, span.seconds))

            return await self._run(work, span.num)

    async def _engine(self, name: str) -> Engine:
        """Return the engine. Made in a thread, because its weights are hashed the first time."""
        return await self._threads.run(
            lambda token: self._engines.engine(name), self._config.engine_cache.load_timeout_s
        )
