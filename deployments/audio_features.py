"""AudioFeatures: the caller's sound -> 16 kHz speech -> speech features."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import NamedTuple

from ray import serve

from config import PipelineConfig
from deployments import metrics
from deployments.replica import Room, Threads, assigned_device, claim_threads, stage_call
from media.audio import extract_speech
from media.decoder import Decoders, written_whole
from media.probe import AudioInfo, probe_audio
from media.stop import Stop
from models.speech_features import FeatureBlock, SpeechFeatures
from models.speech_level import SpeechLevel, measure_level


class PreparedSpeech(NamedTuple):
    """What is measured once for a whole sound file."""

    info: AudioInfo
    level: SpeechLevel


@serve.deployment
class AudioFeatures:
    """Holds the speech encoder; one call is one block of speech."""

    def __init__(self, config: PipelineConfig) -> None:
        """Load and warm the network and librosa, so that the first job does not pay for it."""
        self._config = config
        self._room = Room()
        self._threads = Threads("AudioFeatures")
        self._decoders = Decoders(config.decoder, metrics.decoder_died)
        self._decoders.warm()
        self._features = SpeechFeatures(num_threads=claim_threads(), device=assigned_device())
        self._features.warm()

    @stage_call
    async def prepare(self, audio: Path, speech: Path) -> PreparedSpeech:
        """Decode `audio` to the 16 kHz mono file `speech` and measure its level.

        Raises:
            MediaError: `audio` holds no decodable sound.
            MediaLimitError: It is longer than allowed.
        """
        jobs, limits = self._config.jobs, self._config.limits

        def decode(timeout_s: float, stop: Stop) -> PreparedSpeech:
            with written_whole(speech) as part:
                work = partial(extract_speech, audio, part, limits)
                info = self._decoders.run(work, file=audio, timeout_s=timeout_s, stop=stop)
            return PreparedSpeech(info, measure_level(speech))

        claimed = await self._threads.run(partial(self._claimed_seconds, audio), jobs.call_timeout_s(0))
        timeout_s = jobs.call_timeout_s(min(claimed, limits.max_audio_seconds))
        return await self._threads.run(partial(decode, timeout_s), timeout_s)

    @stage_call
    async def extract(
        self, speech: Path, level: SpeechLevel, start_seconds: float, stop_seconds: float
    ) -> FeatureBlock:
        """Return the features of the half-open range [start_seconds, stop_seconds) of a prepared speech file."""

        def work(stop: Stop) -> FeatureBlock:
            return self._features.extract(speech, level, start_seconds, stop_seconds, stop.is_set)

        return await self._threads.run(work, self._config.jobs.call_timeout_s(stop_seconds - start_seconds))

    async def ready(self) -> bool:
        """True once the network is loaded."""
        return True

    async def check_health(self) -> None:
        """Fail while work hangs; Serve then replaces the replica."""
        self._threads.check()

    def _claimed_seconds(self, audio: Path, stop: Stop) -> float:
        limits, timeout_s = self._config.limits, self._config.jobs.call_timeout_s(0)
        work = partial(probe_audio, audio, limits)
        return self._decoders.run(work, file=audio, timeout_s=timeout_s, stop=stop).duration_seconds
