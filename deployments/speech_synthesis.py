"""SpeechSynthesis: texts -> speech, for jobs, live sessions and requests, and films -> texts."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from functools import partial

from ray import serve

from deployments.runtime.replica import GRACE_S, StageReplica, claim_threads, make_decoders, stage_method
from lipwright.config import PipelineConfig
from lipwright.jobs.fair_queue import NICENESS
from lipwright.jobs.speech_messages import ChosenVoices, PlacedCue, RecordedSpeech, TranslatedCue, VoiceRequest
from lipwright.media.language import language_name
from lipwright.media.subtitles.cues import Cue
from lipwright.speech.cue_recorder import CueRecorder, record_timeout_s
from lipwright.speech.cue_speaker import CueSpeaker, when_reachable
from lipwright.speech.service import Purpose, tts_service
from lipwright.speech.transcriber import Transcriber, transcription_queue
from lipwright.speech.voice_choice import choose_voices
from lipwright.storage.cues import SpokenCue, open_cues
from lipwright.storage.state import open_store


@serve.deployment(graceful_shutdown_timeout_s=GRACE_S)
class SpeechSynthesis(StageReplica):
    """Speaks texts with the configured voices, which run in processes or servers of their own.

    `lipwright.jobs.ports.Stages` describes the methods for jobs.
    """

    def __init__(self, config: PipelineConfig) -> None:
        """Load nothing: a service that speaks no texts pays nothing for voices."""
        super().__init__("SpeechSynthesis", config)
        claim_threads(niceness=0)  # live sessions wait for the voices
        files, decoders = open_store(config), make_decoders(config, warm=False, niceness=NICENESS)
        self._tts = tts_service(config.tts, files)
        self._speaker = CueSpeaker(config, files, self._tts, decoders, self._threads.run)
        self._transcriber = Transcriber(config, files, transcription_queue())
        self._recorder = CueRecorder(config, files.stored, open_cues(config, files.stored), decoders)

    async def synthesize(
        self, text: str, voice: str | None, owner: str | None, purpose: Purpose
    ) -> AsyncGenerator[bytes]:
        """Yield an audio file as it is made; see `TtsService.synthesize`.

        Not a stage method: a call that runs exclusively (`CallGate`) must not delay a live session.
        """
        async with aclosing(self._tts.synthesize(text, voice, owner, purpose)) as pieces:
            async for piece in pieces:
                yield piece

    async def voices(self) -> list[str]:
        """Return the names of all available voices; see `TtsService.voices`."""
        return await self._tts.voices()

    async def check_voice(self, voice: str) -> None:
        """Raise OptionError if the voice cannot exist; see `TtsService.check_voice`."""
        await self._tts.check_voice(voice)

    @stage_method
    async def speak(self, text: str, voice: str | None, owner: str | None, folder: str) -> SpokenCue:
        return await self._speaker.speak(text, voice, owner, folder)

    @stage_method
    async def record_speech(self, cues: Sequence[PlacedCue], out: str) -> RecordedSpeech:
        return await self._threads.run(partial(self._recorder.record, cues, out), record_timeout_s(self._config, cues))

    @stage_method
    async def transcribe(self, video: str, owner: str | None) -> list[Cue]:
        return await when_reachable(partial(self._transcriber.transcribe, owner, video, None))

    @stage_method
    async def translate(self, cues: Sequence[Cue], language: str) -> list[TranslatedCue]:
        return await when_reachable(partial(self._transcriber.translate, cues, language_name(language)))

    @stage_method
    async def choose_voices(self, requests: Sequence[VoiceRequest], language: str | None) -> ChosenVoices:
        return await choose_voices(self._tts, requests, language)
