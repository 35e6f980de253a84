"""Text-to-speech by what is installed on this machine: packages with voices, and espeak-ng."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Final

from lipwright.config import TtsConfig
from lipwright.media.language import are_same_language, parse_language
from lipwright.speech.espeak_backend import PREFIX, EspeakBackend, is_installed, language_of, speakers_of
from lipwright.speech.package_backend import ENGLISH, JAPANESE, PackageBackend

_ENGLISH_BY_ESPEAK: Final = PREFIX + "en"
_DEFAULT_ESPEAK_VOICE: Final = _ENGLISH_BY_ESPEAK + "-us"


class LocalBackend:
    """Chooses between the packages, for English and Japanese, and espeak-ng, for other languages."""

    def __init__(self, settings: TtsConfig) -> None:
        self._voice = settings.voice
        self._english = PackageBackend(settings, ENGLISH) if ENGLISH.is_installed else None
        self._japanese = PackageBackend(settings, JAPANESE) if JAPANESE.is_installed else None
        self._espeak = EspeakBackend(settings)

    @property
    def default_voice(self) -> str | None:
        """The configured voice if it is known, else an English one, else a Japanese one; None without any."""
        japanese = [] if self._japanese is None else JAPANESE.voices()
        if self._voice.startswith(PREFIX) or self._voice in japanese:
            return self._voice
        if self._english is not None:
            return ENGLISH.default_voice
        if is_installed():
            return _DEFAULT_ESPEAK_VOICE
        return japanese[0] if japanese else None

    def synthesize(self, text: str, voice: str) -> AsyncGenerator[bytes]:
        """Yield a WAV file; see `lipwright.speech.service.TtsBackend`."""
        return self._backend_of(voice).synthesize(text, voice)

    async def check_voice(self, voice: str) -> None:
        """Raise OptionError if the voice does not exist; see `lipwright.speech.service.TtsBackend`."""
        await self._backend_of(voice).check_voice(voice)

    async def identity(self, voice: str) -> str:
        """Return what decides how a voice sounds; see `lipwright.speech.service.TtsBackend`."""
        return await self._backend_of(voice).identity(voice)

    def _backend_of(self, voice: str) -> PackageBackend | EspeakBackend:
        if voice.startswith(PREFIX):
            return self._espeak
        if self._japanese is not None and voice in JAPANESE.voices():
            return self._japanese
        return self._english or self._espeak

    async def voices_of(self, language: str) -> list[str]:
        """Return different speakers of a language: voices of packages, then those of espeak-ng."""
        voices = dict.fromkeys([*await self.voices(), *await self._espeak.voices()])
        known = {voice: self.language_of(voice) for voice in voices}
        found = [voice for voice, own in known.items() if own is not None and are_same_language(own, language)]
        of_espeak = [voice for voice in found if voice.startswith(PREFIX)]
        # Of the regions and dialects of a language, one is enough.
        return [*(voice for voice in found if voice not in of_espeak), *speakers_of(of_espeak)]

    def language_of(self, voice: str) -> str | None:
        """Return the language of a voice, ISO 639-3; None if it is not known."""
        if voice.startswith(PREFIX):
            return language_of(voice)
        return parse_language((JAPANESE if voice in JAPANESE.voices() else ENGLISH).language)

    async def voices(self) -> list[str]:
        """Return the installed voices; espeak-ng's English and Japanese ones only where no package speaks these."""
        voices = await self._espeak.voices()
        if self._english is not None:
            voices = [*await self._english.voices(), *_without(voices, _ENGLISH_BY_ESPEAK)]
        if self._japanese is not None:
            voices = [*await self._japanese.voices(), *_without(voices, PREFIX + "ja")]
        return voices


def _without(voices: list[str], language: str) -> list[str]:
    """Return the voices but those of espeak-ng for `language` and its regions."""
    return [voice for voice in voices if voice != language and not voice.startswith(language + "-")]
