from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from typing import Any

import pytest

from lipwright.config import TtsConfig
from lipwright.errors import CapacityError, OptionError, StageTimeoutError
from lipwright.jobs.planning import speech_title
from lipwright.jobs.speech_messages import ChosenVoices, VoiceRequest
from lipwright.speech.openai_backend import OpenAIBackend
from lipwright.speech.service import Purpose, TtsService
from lipwright.speech.voice_choice import choose_voices
from tests.unit.api_server import MemoryService, api_client
from tests.unit.speech.speech_server import speaking


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


async def test_synthesize_late_for_a_busy_caller_times_out() -> None:
    with speaking(sound=b"RIFF" * 200_000) as voice:
        backend = OpenAIBackend(TtsConfig(url=voice.url, timeout_s=1))

        async def consume() -> None:
            async with aclosing(backend.synthesize("Hi.", "alloy")) as pieces:
                async for _ in pieces:
                    await asyncio.sleep(0.6)  # such as writing to a busy disk

        with pytest.raises(StageTimeoutError):
            await asyncio.create_task(consume())


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

    async def check_voice(self, voice: str) -> None:
        if voice == "nobody":
            raise OptionError("voice: 'nobody' is not installed.")

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


def test_choose_voices_without_known_language_keeps_requests() -> None:
    assert _choose(("a", None), ("b", "en"), language=None) == ChosenVoices((None, "en"), "eng")
    assert _choose(("a", None), ("b", "de-1"), language=None) == ChosenVoices((None, "de-1"), None)
    assert _choose(language=None) == ChosenVoices((), None)
    assert _choose(("a", None), ("b", "x"), language="deu", knows=False) == ChosenVoices((None, "x"), "deu")


def test_choose_voices_that_do_not_exist_raises() -> None:
    with pytest.raises(OptionError, match="'nobody' is not installed"):
        _choose(("a", None), ("b", "nobody"), language=None)
    with pytest.raises(OptionError, match="4 speakers need as many voices of German; there are: de-1, de-2, de-3"):
        _choose(("a", None), ("b", None), ("c", None), ("d", "de-1"), language="deu")
    with pytest.raises(OptionError, match="there are: none. Voices of other languages: en"):
        _choose((None, None), language="fra")


VIDEO = {"video": ("face.png", b"\x89PNG\r\n\x1a\n" + bytes(64))}
TEXT = {"text": "Hello there, \u4f60\u597d."}


def test_a_text_is_accepted_without_asking_the_voice(service: MemoryService) -> None:
    with speaking() as voice, api_client(service, tts=TtsConfig(url=voice.url, voice="af_heart")) as http:
        headers = {"Idempotency-Key": "k1"}
        job = http.post("/v1/jobs", files=VIDEO, data=TEXT, headers=headers).json()
        again = http.post("/v1/jobs", files=VIDEO, data=TEXT, headers=headers).json()
        other = http.post("/v1/jobs", files=VIDEO, data={**TEXT, "voice": "bf_emma"}).json()
        voices = http.get("/v1/voices").json()
        assert voices == {
            **{"is_available": True, "voices": ["af_heart"], "default": "af_heart", "max_chars": 4096},
            **{"can_clone": False, "can_translate": False, "cloned": []},
        }
    assert again["id"] == job["id"] != other["id"]
    assert [(each.text, each.voice) for each in service.requests] == [(TEXT["text"], None), (TEXT["text"], "bf_emma")]
    assert job["inputs"]["audio"] == "Hello there, 你好"
    assert not voice.asked


def test_the_sound_of_a_text_is_called_by_its_first_words() -> None:
    long = "One, two, three One, two, three One, two, three..."
    titles = {"Good day!": "Good day", "One, two, three. " * 9: long, "字" * 60: "字" * 48 + "...", "?!": "speech"}
    titles |= {"Hello! [wave] Don't go.": "Hello! Don't go"}
    assert {text: speech_title(text) for text in titles} == titles


def test_a_text_in_json_and_a_prompt_of_openai(service: MemoryService) -> None:
    sound = {"audio": ("a.wav", b"RIFF" + bytes(99))}
    with api_client(service) as http:
        avatar = http.post("/v1/avatars", files=VIDEO).json()["id"]
        assert http.post("/v1/jobs", json={**TEXT, "avatar_id": avatar}).status_code == 202
        video = http.post("/v1/videos", json={"prompt": "Good day.", "avatar_id": avatar})
        assert video.status_code == 200, video.text
        assert http.post("/v1/videos", files=sound, data={"prompt": "x", "avatar_id": avatar}).status_code == 200
        both = http.post("/v1/jobs", files=VIDEO | sound, data=TEXT)
        assert (both.status_code, "not both" in both.json()["detail"]) == (422, True), both.text
        neither = http.post("/v1/videos", files={"input_reference": VIDEO["video"]})
        assert "audio or prompt is required" in neither.json()["error"]["message"]
        none = http.get("/v1/voices").json()
        assert (none["is_available"], none["voices"], none["default"]) == (False, [], None)
    assert [request.text for request in service.requests] == [TEXT["text"], "Good day.", None]


@pytest.mark.parametrize(
    ("listed", "path", "expected"),
    [
        (["alloy", "kim"], "", ["kim", "alloy"]),
        ([{"id": "alloy"}, {"name": "kim"}, {}], "", ["kim", "alloy"]),
        (None, "/audio/speech", ["kim"]),
    ],
)
def test_voices_of_a_server_are_listed(
    service: MemoryService, listed: list[Any] | None, path: str, expected: list[str]
) -> None:
    with (
        speaking(voices=listed) as server,
        api_client(service, tts=TtsConfig(url=server.url + path, voice="kim")) as http,
    ):
        assert http.get("/v1/voices").json()["voices"] == expected
