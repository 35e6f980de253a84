"""The text-to-speech backend of this service, and its limits."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from typing import Final, Literal, Protocol, get_args

from lipwright.config import TtsConfig
from lipwright.errors import CapacityError, VoiceError
from lipwright.jobs.fair_queue import FairQueue
from lipwright.speech.limits import check_length, no_voice_error
from lipwright.speech.local_backend import LocalBackend
from lipwright.speech.openai_backend import OpenAIBackend
from lipwright.storage.file_store import FileStore
from lipwright.storage.voices import VoiceStore

Purpose = Literal["jobs", "requests", "live"]
"""What texts are spoken for; each has a queue of its own, so that no dub delays a live session or a request."""
_MAX_OWN: Final = 64
_MAX_WAITING: Final = 256  # those of jobs are limited by the queue of jobs


class TextToSpeech(Protocol):
    """Text-to-speech for live sessions and requests: `TtsService`, in this process or behind a handle."""

    async def voices(self) -> list[str]:
        """Return the names of all available voices but cloned ones, the default first; none without a backend."""
        ...

    async def check_voice(self, voice: str) -> None:
        """Raise OptionError if there is no backend, or the voice is known not to exist."""

    def synthesize(self, text: str, voice: str | None, owner: str | None, purpose: Purpose) -> AsyncGenerator[bytes]:
        """Yield the chunks of an audio file; see `TtsService.synthesize`."""
        ...


class TtsBackend(Protocol):
    """Synthesizes speech."""

    def synthesize(self, text: str, voice: str) -> AsyncGenerator[bytes]:
        """Yield the chunks of an audio file.

        Raises:
            OptionError: The voice does not exist or cannot speak this text.
            VoiceError: The backend failed.
            StageTimeoutError: The backend timed out.
        """
        ...

    async def identity(self, voice: str) -> str:
        """Return what decides, besides a text, how a voice sounds: the voice and its model, with versions.

        A voice that does not exist has one as well.
        """
        ...

    async def voices(self) -> list[str]:
        """Return the names of all available voices; empty if the backend cannot list them."""
        ...

    async def check_voice(self, voice: str) -> None:
        """Raise OptionError if the voice is known not to exist."""

    async def voices_of(self, language: str) -> list[str] | None:
        """Return the voices that speak a language (ISO 639-3), each a different speaker; None if it is not known."""
        ...

    def language_of(self, voice: str) -> str | None:
        """Return the language of a voice (ISO 639-3); None if it is not known."""
        ...


@dataclass(frozen=True)
class FoundVoice:
    """A voice by its name, or that of a recording.

    Attributes:
        synthesize: Yields the chunks of an audio file of a text; errors as for `TtsBackend.synthesize`.
        identity: Returns what decides, besides a text, how the voice sounds.
    """

    synthesize: Callable[[str], AsyncGenerator[bytes]]
    identity: Callable[[], Awaitable[str]]


@dataclass(frozen=True)
class Cloning:
    """The voices that callers have cloned, and what speaks with them."""

    voices: VoiceStore
    backend: OpenAIBackend


class TtsService:
    """A text-to-speech backend with limits on text length, audio size and concurrency.

    Attributes:
        default_voice: Voice of jobs that name none; None if there is no backend.
    """

    def __init__(
        self,
        settings: TtsConfig,
        backend: TtsBackend | None,
        default_voice: str | None,
        cloning: Cloning | None = None,
    ) -> None:
        self._settings = settings
        self._backend = backend
        self._cloning = cloning
        self.default_voice = default_voice
        self._queues: dict[Purpose, FairQueue] = {purpose: _queue(settings) for purpose in get_args(Purpose)}

    async def voices(self) -> list[str]:
        """Return the names of all available voices but cloned ones, the default first."""
        if self._backend is None or self.default_voice is None:
            return []
        return list(dict.fromkeys((self.default_voice, *await self._backend.voices())))

    async def check_voice(self, voice: str) -> None:
        """Raise OptionError if there is no backend, or the voice is known not to exist."""
        if self._backend is None:
            raise no_voice_error()
        await self._backend.check_voice(voice)

    async def voices_of(self, language: str) -> list[str] | None:
        """Return the voices that speak a language, the default first; None if the languages are not known."""
        found = None if self._backend is None else await self._backend.voices_of(language)
        return found and sorted(found, key=lambda voice: voice != self.default_voice)

    def language_of(self, voice: str | None) -> str | None:
        """Return the language of a voice, None for the default one; None if it is not known."""
        name = voice or self.default_voice
        return None if self._backend is None or name is None else self._backend.language_of(name)

    async def synthesize(
        self, text: str, voice: str | None, owner: str | None, purpose: Purpose
    ) -> AsyncGenerator[bytes]:
        """Yield the chunks of an audio file, once it is the text's turn.

        Args:
            text: What to speak.
            voice: Name of a voice; a cloned one of the caller before others. The default voice if None.
            owner: The caller.
            purpose: What it is spoken for.

        Raises:
            OptionError: The text or voice cannot be used.
            CapacityError: Too many texts wait.
            VoiceError: The backend failed, or the audio is too large.
            StageTimeoutError: The backend timed out.
        """
        found = await self.find_voice(voice, owner)
        async with aclosing(self.synthesize_with(found, text, owner, purpose)) as pieces:
            async for piece in pieces:
                yield piece

    async def synthesize_with(
        self, voice: FoundVoice, text: str, owner: str | None, purpose: Purpose
    ) -> AsyncGenerator[bytes]:
        """Yield the chunks of an audio file in a voice of `find_voice`, as `synthesize` does."""
        check_length(self._settings, text)
        async with self._queues[purpose].turn(owner), aclosing(self._pieces(voice, text)) as pieces:
            async for piece in pieces:
                yield piece

    async def find_voice(self, voice: str | None, owner: str | None) -> FoundVoice:
        """Return a voice by its name, a cloned one of the caller before others; the default voice for None.

        Raises:
            OptionError: There is no backend. Whether it has a voice of that name is known when it speaks.
        """
        backend, name = self._backend, voice or self.default_voice or ""
        if backend is None:
            raise no_voice_error()
        if (cloning := self._cloning) is not None:
            sample = await asyncio.to_thread(cloning.voices.find, owner, name)
            if sample is not None:
                identity = partial(asyncio.to_thread, cloning.backend.identity_of_clone, sample)
                return FoundVoice(partial(cloning.backend.clone, sample=sample), identity)
        return FoundVoice(partial(backend.synthesize, voice=name), partial(backend.identity, name))

    async def _pieces(self, voice: FoundVoice, text: str) -> AsyncGenerator[bytes]:
        limits, num_bytes = self._settings, 0
        async with aclosing(voice.synthesize(text)) as pieces:
            async for piece in pieces:
                num_bytes += len(piece)
                if num_bytes > limits.max_bytes:
                    raise VoiceError(f"The voice returned more than {limits.max_bytes} bytes of audio.")
                yield piece
        if not num_bytes:
            raise VoiceError("The voice returned no audio.")


def tts_service(settings: TtsConfig, files: FileStore) -> TtsService:
    """Return the configured endpoint, else the voices installed here, else none."""
    if settings.url is not None:
        server = OpenAIBackend(settings)
        cloning = None if settings.cloning is None else Cloning(VoiceStore(files.stored), server)
        return TtsService(settings, server, settings.voice, cloning)
    if settings.use_builtin and (default_voice := (local := LocalBackend(settings)).default_voice) is not None:
        return TtsService(settings, local, default_voice)
    return TtsService(settings, None, None)


def _queue(settings: TtsConfig) -> FairQueue:
    at_once, max_wait_s = settings.max_concurrent, settings.max_wait_s
    return FairQueue("the voice", at_once, _MAX_WAITING, _MAX_OWN, max_wait_s, refusal=CapacityError)
