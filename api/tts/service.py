"""The text-to-speech backend of this service, and its limits."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from functools import cache
from typing import Protocol

from api.tts.local_backend import LocalBackend
from api.tts.openai_backend import OpenAIBackend
from config import TtsConfig
from errors import BusyError, OptionError, VoiceError

_RETRY_AFTER_S = 5.0


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

    async def voices(self) -> list[str]:
        """Return the names of all available voices; empty if the backend cannot list them."""
        ...


class TtsService:
    """A text-to-speech backend with limits on text length, audio size and concurrency.

    Attributes:
        default_voice: Voice of jobs that name none; None if there is no backend.
    """

    def __init__(self, settings: TtsConfig, backend: TtsBackend | None, default_voice: str | None) -> None:
        self._settings = settings
        self._backend = backend
        self.default_voice = default_voice
        self._num_active = 0

    @property
    def max_chars(self) -> int:
        """Maximum length of a text in characters."""
        return self._settings.max_chars

    @property
    def media_type(self) -> str:
        """Media type of the synthesized audio."""
        kind = self._settings.response_format if self._settings.url is not None else "wav"
        return {"mp3": "audio/mpeg", "opus": "audio/ogg"}.get(kind, f"audio/{kind}")

    async def voices(self) -> list[str]:
        """Return the names of all available voices, the default first."""
        if self._backend is None or self.default_voice is None:
            return []
        return list(dict.fromkeys((self.default_voice, *await self._backend.voices())))

    def check(self, text: str) -> None:
        """Check a text before anything is done for it.

        Raises:
            OptionError: There is no backend, or the text is too long.
        """
        if self._backend is None:
            raise OptionError(
                "text: this service has no voice. Send audio instead, or ask the operator to set tts.url or to "
                "install the extra [tts] or espeak-ng."
            )
        if len(text) > self.max_chars:
            raise OptionError(f"text: expected at most {self.max_chars} characters, found {len(text)}.")

    async def synthesize(self, text: str, voice: str | None) -> AsyncGenerator[bytes]:
        """Yield the chunks of an audio file.

        Raises:
            OptionError: The text or voice cannot be used.
            BusyError: Too many texts are being synthesized.
            VoiceError: The backend failed, or the audio is too large.
            StageTimeoutError: The backend timed out.
        """
        self.check(text)
        assert self._backend is not None
        limits = self._settings
        if self._num_active >= limits.max_concurrent:
            raise BusyError(f"The voice is busy: {limits.max_concurrent} texts are in progress.", _RETRY_AFTER_S)
        self._num_active += 1
        try:
            num_bytes = 0
            async with aclosing(self._backend.synthesize(text, voice or self.default_voice or "")) as pieces:
                async for piece in pieces:
                    num_bytes += len(piece)
                    if num_bytes > limits.max_bytes:
                        raise VoiceError(f"The voice returned more than {limits.max_bytes} bytes of audio.")
                    yield piece
            if not num_bytes:
                raise VoiceError("The voice returned no audio.")
        finally:
            self._num_active -= 1


@cache
def tts_service(settings: TtsConfig) -> TtsService:
    """Return the TTS service of this process: the configured endpoint, else the voices installed here, else none."""
    if settings.url is not None:
        return TtsService(settings, OpenAIBackend(settings), settings.voice)
    if settings.use_builtin and (default_voice := (local := LocalBackend(settings)).default_voice) is not None:
        return TtsService(settings, local, default_voice)
    return TtsService(settings, None, None)
