"""A voice backend in memory."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence


class FakeBackend:
    """Speaks a text as its own bytes.

    Attributes:
        languages: Voices by language; None where the backend knows no languages.
    """

    def __init__(self, languages: Mapping[str, Sequence[str]] | None = None) -> None:
        self.languages = languages

    async def synthesize(self, text: str, voice: str) -> AsyncGenerator[bytes]:
        yield text.encode()

    async def identity(self, voice: str) -> str:
        return voice

    async def voices(self) -> list[str]:
        return [voice for voices in (self.languages or {}).values() for voice in voices]

    async def check_voice(self, voice: str) -> None:
        pass

    async def voices_of(self, language: str) -> list[str] | None:
        return None if self.languages is None else list(self.languages.get(language, ()))

    def language_of(self, voice: str) -> str | None:
        return next((name for name, voices in (self.languages or {}).items() if voice in voices), None)
