"""Text-to-speech by what is installed on this machine: the built-in voice and espeak-ng."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from importlib.util import find_spec
from typing import Final

from api.tts.builtin_backend import BUILTIN_VOICE, BuiltinBackend
from api.tts.espeak_backend import PREFIX, EspeakBackend, is_installed
from config import TtsConfig

_ENGLISH: Final = PREFIX + "en"
_DEFAULT_ESPEAK_VOICE: Final = _ENGLISH + "-us"


class LocalBackend:
    """Chooses between the built-in voice, for English, and espeak-ng, for other languages."""

    def __init__(self, settings: TtsConfig) -> None:
        self._voice = settings.voice
        self._builtin = BuiltinBackend(settings) if find_spec("hibari") is not None else None
        self._espeak = EspeakBackend(settings)

    @property
    def default_voice(self) -> str | None:
        """The configured language of espeak-ng, else the built-in voice, else English by espeak-ng, else None."""
        if self._voice.startswith(PREFIX):
            return self._voice
        if self._builtin is not None:
            return BUILTIN_VOICE
        return _DEFAULT_ESPEAK_VOICE if is_installed() else None

    def synthesize(self, text: str, voice: str) -> AsyncGenerator[bytes]:
        """Yield a WAV file; see `api.tts.service.TtsBackend`."""
        if self._builtin is None or voice.startswith(PREFIX):
            return self._espeak.synthesize(text, voice)
        return self._builtin.synthesize(text, voice)

    async def voices(self) -> list[str]:
        """Return the installed voices; espeak-ng's English ones only where there is no built-in one."""
        voices = await self._espeak.voices()
        if self._builtin is None:
            return voices
        others = [voice for voice in voices if voice != _ENGLISH and not voice.startswith(_ENGLISH + "-")]
        return [*await self._builtin.voices(), *others]
