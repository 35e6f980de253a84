from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing

import pytest

from config import TtsConfig
from errors import CapacityError, OptionError
from jobs.speech_messages import ChosenVoices, VoiceRequest
from speech.service import Purpose, TtsService
from speech.voice_choice import choose_voices


async def _settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def test_synthesize_releases_the_slot_after_each_text() -> None:
    service = TtsService(TtsConfig(max_concurrent=1), FakeBackend(), "beep")
    order: list[str] = []

    async def dub() -> None:
        for number in range(3):
            async for piece in service.synthesize(f"cue {number}", None, "a", "jobs"):
                order.append(piece.decode())
                await _settle()

    async def other() -> None:
        async for piece in service.synthesize("other", None, "b", "jobs"):
            order.append(piece.decode())

    await asyncio.gather(dub(), other())
    assert order == ["cue 0", "other", "cue 1", "cue 2"]


async def test_synthesize_for_live_does_not_wait_for_jobs() -> None:
    service = TtsService(TtsConfig(max_concurrent=1, max_wait_s=5), FakeBackend(), "beep")
    async with aclosing(service.synthesize("cue", None, "a", "jobs")) as cue:
        await anext(cue)  # holds the slot of jobs
        waiting = asyncio.create_task(_spoken(service, "another cue", "a", "jobs"))
        await _settle()
        assert await _spoken(service, "live", "a", "live") == "live"
        assert await _spoken(service, "request", "a", "requests") == "request"
        assert not waiting.done()
    assert await waiting == "another cue"


async def _spoken(service: TtsService, text: str, owner: str, purpose: Purpose) -> str:
    return b"".join([piece async for piece in service.synthesize(text, None, owner, purpose)]).decode()


async def test_synthesize_without_a_free_voice_says_when_to_retry() -> None:
    service = TtsService(TtsConfig(max_concurrent=1, max_wait_s=0.05), FakeBackend(), "beep")
    async with aclosing(service.synthesize("spoken", None, "a", "live")) as pieces:
        await anext(pieces)
        with pytest.raises(CapacityError, match="the voice: none was free for 0.05 s") as full:
            await _spoken(service, "refused", "a", "live")
    assert (full.value.status_code, full.value.retry_after_s >= 1) == (429, True)


class FakeBackend:
    def __init__(self, languages: Mapping[str, Sequence[str]] | None = None) -> None:
        self.languages = languages

    async def synthesize(self, text: str, voice: str) -> AsyncGenerator[bytes]:
        yield text.encode()

    async def identity(self, voice: str) -> str:
        return voice

    async def voices(self) -> list[str]:
        return [voice for voices in (self.languages or {}).values() for voice in voices]

    async def voices_of(self, language: str) -> list[str] | None:
        return None if self.languages is None else list(self.languages.get(language, ()))

    def language_of(self, voice: str) -> str | None:
        return next((name for name, voices in (self.languages or {}).items() if voice in voices), None)


LANGUAGES = {"deu": ["de-1", "de-2", "de-3"], "eng": ["en"]}


def _choose(*requests: tuple[str | None, str | None], language: str | None, knows: bool = True) -> ChosenVoices:
    tts = TtsService(TtsConfig(), FakeBackend(LANGUAGES if knows else None), "en")
    return asyncio.run(choose_voices(tts, [VoiceRequest(*request) for request in requests], language))


def test_choose_voices_gives_each_speaker_another_voice() -> None:
    found = _choose(("a", None), ("b", None), ("a", None), ("c", "de-1"), language="deu")
    assert found == ChosenVoices(("de-2", "de-3", "de-2", "de-1"), "deu")


def test_choose_voices_without_a_language_keeps_requests() -> None:
    assert _choose(("a", None), ("b", "en"), language=None) == ChosenVoices((None, "en"), "eng")
    assert _choose(("a", None), ("b", "de-1"), language=None) == ChosenVoices((None, "de-1"), None)
    assert _choose(language=None) == ChosenVoices((), None)


def test_choose_voices_of_unknown_languages_keeps_requests() -> None:
    assert _choose(("a", None), ("b", "x"), language="deu", knows=False) == ChosenVoices((None, "x"), "deu")


def test_choose_voices_with_too_few_raises() -> None:
    with pytest.raises(OptionError, match="4 speakers need as many voices of German; there are: de-1, de-2, de-3"):
        _choose(("a", None), ("b", None), ("c", None), ("d", "de-1"), language="deu")
    with pytest.raises(OptionError, match="there are: none. Voices of other languages: en"):
        _choose((None, None), language="fra")
