"""Voices of texts: those that are wished for, and different ones for the other speakers."""

from __future__ import annotations

import asyncio

import pytest

from config import TtsConfig
from errors import OptionError
from jobs.speech_messages import ChosenVoices, VoiceRequest
from speech.service import TtsService
from speech.voice_choice import choose_voices
from tests.unit.speech.fake_backend import FakeBackend

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
