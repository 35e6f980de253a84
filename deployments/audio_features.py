"""AudioFeatures: the caller's sound -> 16 kHz speech -> speech features."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import NamedTuple

from ray import serve

from config import PipelineConfig
from deployments.replica import assigned_device, claim_threads
from media.audio import extract_speech
from media.probe import AudioInfo
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
        self._limits = config.limits
        self._features = SpeechFeatures(num_threads=claim_threads(), device=assigned_device())
        self._features.warm()

    async def prepare(self, audio: Path, speech: Path) -> PreparedSpeech:
        """Decode `audio` to the 16 kHz mono file `speech` and measure its level.

        Raises:
            MediaError: `audio` holds no decodable sound.
            MediaLimitError: It is longer than allowed.
        """

        def decode() -> PreparedSpeech:
            info = extract_speech(audio, speech, self._limits)
            return PreparedSpeech(info, measure_level(speech))

        return await asyncio.to_thread(decode)

    async def extract(
        self, speech: Path, level: SpeechLevel, start_seconds: float, stop_seconds: float
    ) -> FeatureBlock:
        """Return the features of the half-open range [start_seconds, stop_seconds) of a prepared speech file."""
        return await asyncio.to_thread(self._features.extract, speech, level, start_seconds, stop_seconds)

    async def ready(self) -> bool:
        """True once the network is loaded."""
        return True
