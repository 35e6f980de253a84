"""Speaks the texts of jobs into a folder, as SpeechSynthesis does."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from lipwright.config import DecoderConfig, PipelineConfig, TtsConfig
from lipwright.jobs.model.base import new_id
from lipwright.jobs.speech_messages import ChosenVoices, VoiceRequest
from lipwright.media.cancel_token import CancelToken
from lipwright.media.decoding.decoder import Decoders
from lipwright.speech.cue_speaker import CueSpeaker
from lipwright.speech.service import tts_service
from lipwright.speech.voice_choice import choose_voices
from lipwright.storage.cues import SpokenCue
from lipwright.storage.file_keys import UPLOADS, job_cues_folder
from lipwright.storage.file_store import FileStore
from tests.unit.on_disk import on_disk

T = TypeVar("T")


class TextSpeaker:
    """`run` and what calls it need a `runner`."""

    def __init__(
        self, root: Path, settings: TtsConfig, decoders: Decoders, runner: asyncio.Runner | None = None
    ) -> None:
        self.files, self._runner = FileStore(root), runner
        self.tts = tts_service(settings, self.files)
        self._speaker = CueSpeaker(PipelineConfig(tts=settings), self.files, self.tts, decoders, _in_thread)

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        assert self._runner is not None
        return self._runner.run(work)

    async def cue(
        self, text: str, voice: str | None = None, owner: str | None = None, job_id: str | None = None
    ) -> SpokenCue:
        folder = job_cues_folder(job_id or new_id())
        self.files.stored.make_folder(folder)
        return await self._speaker.speak(text, voice, owner, folder)

    def speak(self, text: str, voice: str | None = None, owner: str | None = None) -> Path:
        return self.path(self.run(self.cue(text, voice, owner)))

    def path(self, cue: SpokenCue) -> Path:
        return on_disk(self.files, cue.key)

    def choose_voices(self, *requests: VoiceRequest, language: str | None) -> ChosenVoices:
        return self.run(choose_voices(self.tts, requests, language))

    def uploads(self) -> list[str]:
        return sorted(self.files.stored.entries(UPLOADS))


@contextmanager
def speaking_texts(root: Path, settings: TtsConfig) -> Iterator[TextSpeaker]:
    """Give a speaker whose files are in a folder."""
    with asyncio.Runner() as runner:
        yield TextSpeaker(root, settings, _decoders(), runner)


@cache
def _decoders() -> Decoders:
    """Their process ends with this one."""
    return Decoders(DecoderConfig())


async def _in_thread(work: Callable[[CancelToken], T], timeout_s: float) -> T:
    async with asyncio.timeout(timeout_s):
        return await asyncio.to_thread(work, CancelToken())
