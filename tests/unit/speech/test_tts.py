from __future__ import annotations

from typing import Any

import httpx
import pytest

from config import TtsConfig
from jobs.planning import speech_title
from speech.service import TtsService
from tests.unit.api_server import MemoryService, api_client
from tests.unit.speech.speech_server import speaking

VIDEO = {"video": ("face.png", b"\x89PNG\r\n\x1a\n" + bytes(64))}
TEXT = {"text": "Hello there, \u4f60\u597d."}


def _refused(answer: httpx.Response, status: int, code: str) -> str:
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text
    return str(answer.json()["detail"])


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
    assert job["inputs"]["audio"] == "Hello there 你好"
    assert not voice.asked


@pytest.mark.parametrize(
    ("text", "title"),
    [
        ("Good day!", "Good day"),
        ("One, two, three. " * 9, "One two three One two three One two three One..."),
        ("字" * 60, "字" * 48 + "..."),
        ("?!", "speech"),
    ],
)
def test_the_sound_of_a_text_is_called_by_its_first_words(text: str, title: str) -> None:
    assert speech_title(text) == title


def test_a_text_in_json_and_a_prompt_of_openai(service: MemoryService) -> None:
    with api_client(service) as http:
        avatar = http.post("/v1/avatars", files=VIDEO).json()["id"]
        assert http.post("/v1/jobs", json={**TEXT, "avatar_id": avatar}).status_code == 202
        video = http.post("/v1/videos", json={"prompt": "Good day.", "avatar_id": avatar})
        assert video.status_code == 200, video.text
        sound = {"audio": ("a.wav", b"RIFF" + bytes(99))}
        assert http.post("/v1/videos", files=sound, data={"prompt": "x", "avatar_id": avatar}).status_code == 200
    assert [request.text for request in service.requests] == [TEXT["text"], "Good day.", None]


def test_a_text_and_audio_or_neither_are_refused(service: MemoryService) -> None:
    with api_client(service) as http:
        neither = http.post("/v1/jobs", files=VIDEO)
        assert "audio or text is required" in _refused(neither, 422, "option_invalid")
        both = http.post("/v1/jobs", files={**VIDEO, "audio": ("a.wav", b"RIFF" + bytes(99))}, data=TEXT)
        assert "not both" in _refused(both, 422, "option_invalid")
        prompt = http.post("/v1/videos", files={"input_reference": VIDEO["video"]})
        assert "audio or prompt is required" in prompt.json()["error"]["message"]
    assert not service.requests and not service.uploads()


async def test_without_a_voice_the_answer_says_what_to_do() -> None:
    with pytest.raises(ValueError, match="no voice.*set tts.url or to install the extra"):
        await TtsService(TtsConfig(), None, None).find_voice(None, None)


@pytest.mark.parametrize("listed", [["alloy", "kim"], [{"id": "alloy"}, {"name": "kim"}, {}]])
def test_all_voices_of_a_server_are_listed(service: MemoryService, listed: list[Any]) -> None:
    with speaking(voices=listed) as voice, api_client(service, tts=TtsConfig(url=voice.url, voice="kim")) as http:
        assert http.get("/v1/voices").json()["voices"] == ["kim", "alloy"]


def test_a_server_that_cannot_list_voices_has_the_configured_one(service: MemoryService) -> None:
    with speaking() as voice, api_client(service, tts=TtsConfig(url=voice.url + "/audio/speech")) as http:
        assert http.get("/v1/voices").json()["voices"] == ["alloy"]
    with api_client(service) as http:
        none = http.get("/v1/voices").json()
        assert (none["is_available"], none["voices"], none["default"]) == (False, [], None)
