"""A text in place of sound: spoken once, stored like an uploaded file, and bounded."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from config import MediaLimits, TtsConfig
from jobs.planning import speech_title
from media.probe import probe_audio
from speech.service import TtsService
from storage.file_keys import job_file_key
from tests.unit.api_server import MemoryService, serving
from tests.unit.on_disk import on_disk
from tests.unit.speech.speech_server import SpeechServer, speaking, tone

VIDEO = {"video": ("face.png", b"\x89PNG\r\n\x1a\n" + bytes(64))}
TEXT = {"text": "Hello there, \u4f60\u597d."}


@pytest.fixture
def service(tmp_path: Path) -> MemoryService:
    return MemoryService(tmp_path)


@contextmanager
def _api(service: MemoryService, **speech: Any) -> Iterator[httpx.Client]:
    with (
        serving(service, tts=TtsConfig(**speech)) as url,
        httpx.Client(base_url=url, timeout=60, trust_env=False) as http,
    ):
        yield http


@pytest.fixture
def voice() -> Iterator[SpeechServer]:
    with speaking(sound=tone()) as voice:
        yield voice


def _refused(answer: httpx.Response, status: int, code: str) -> str:
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text
    return str(answer.json()["detail"])


def test_a_text_is_spoken_once_and_kept_like_a_file(service: MemoryService, voice: SpeechServer) -> None:
    with _api(service, url=voice.url, model="kokoro", voice="af_heart") as http:
        headers = {"Idempotency-Key": "k1"}
        job = http.post("/v1/jobs", files=VIDEO, data=TEXT, headers=headers).json()
        again = http.post("/v1/jobs", files=VIDEO, data=TEXT, headers=headers).json()
        other = http.post("/v1/jobs", files=VIDEO, data={**TEXT, "voice": "bf_emma"}).json()
        voices = http.get("/v1/voices").json()
        assert voices == {
            **{"is_available": True, "voices": ["af_heart"], "default": "af_heart", "max_chars": 4096},
            **{"can_clone": False, "cloned": []},
        }
    assert again["id"] == job["id"] != other["id"]
    asked = {"model": "kokoro", "input": TEXT["text"], "voice": "af_heart", "response_format": "wav"}
    assert voice.asked == [asked, {**asked, "voice": "bf_emma"}]
    assert on_disk(service.files, job_file_key(job["id"])).read_bytes() == tone()
    assert job["inputs"]["audio"] == "Hello there 你好.wav"


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


def test_a_text_in_json_and_a_prompt_of_openai(service: MemoryService, voice: SpeechServer) -> None:
    with _api(service, url=voice.url + "/audio/speech") as http:
        avatar = http.post("/v1/avatars", files=VIDEO).json()["id"]
        assert http.post("/v1/jobs", json={**TEXT, "avatar_id": avatar}).status_code == 202
        video = http.post("/v1/videos", json={"prompt": "Good day.", "avatar_id": avatar})
        assert video.status_code == 200, video.text
        sound = {"audio": ("a.wav", b"RIFF" + bytes(99))}
        assert http.post("/v1/videos", files=sound, data={"prompt": "x", "avatar_id": avatar}).status_code == 200
    assert [asked["input"] for asked in voice.asked] == [TEXT["text"], "Good day."]


def test_what_is_neither_or_both_is_refused_and_nothing_is_asked(service: MemoryService, voice: SpeechServer) -> None:
    with _api(service, url=voice.url, max_chars=20) as http:
        neither = http.post("/v1/jobs", files=VIDEO)
        assert "audio or text is required" in _refused(neither, 422, "option_invalid")
        both = http.post("/v1/jobs", files={**VIDEO, "audio": ("a.wav", b"RIFF" + bytes(99))}, data=TEXT)
        assert "not both" in _refused(both, 422, "option_invalid")
        late = http.post("/v1/jobs", files=VIDEO, data={"text": "x" * 21})
        assert "expected at most 20 characters, found 21" in _refused(late, 422, "option_invalid")
        prompt = http.post("/v1/videos", files={"input_reference": VIDEO["video"]})
        assert "audio or prompt is required" in prompt.json()["error"]["message"]
    assert not voice.asked and not service.requests and not service.uploads()


def test_without_a_voice_the_answer_says_what_to_do() -> None:
    with pytest.raises(ValueError, match="no voice.*set tts.url or to install the extra"):
        TtsService(TtsConfig(), None, None).check("Hello")


@pytest.mark.parametrize(
    ("answers", "status", "code", "words"),
    [
        ({"status": 400}, 422, "option_invalid", "rejected this text with voice 'alloy'"),
        ({"status": 500}, 503, "voice_failed", "status 500"),
        ({"key": "other"}, 503, "voice_failed", "status 401"),
        ({"content_type": "application/json"}, 503, "voice_failed", "text instead of audio"),
        ({"sound": b""}, 503, "voice_failed", "returned no audio"),
        ({"sound": bytes(70_000)}, 503, "voice_failed", "more than 60000 bytes"),
    ],
)
def test_a_voice_that_fails_is_named(
    service: MemoryService, answers: dict[str, Any], status: int, code: str, words: str
) -> None:
    with speaking(**answers) as voice, _api(service, url=voice.url, max_bytes=60_000) as http:
        assert words in _refused(http.post("/v1/jobs", files=VIDEO, data=TEXT), status, code)
    assert len(voice.asked) == 1
    assert not service.requests and not service.uploads()
    assert not service.places


def test_a_voice_that_is_away_or_slow_is_given_up(service: MemoryService) -> None:
    with speaking(hold=threading.Event()) as voice, _api(service, url=voice.url, timeout_s=0.3) as http:
        assert "timed out after 0.3 s" in _refused(http.post("/v1/jobs", files=VIDEO, data=TEXT), 504, "stage_timeout")
        gone = voice.url
    assert service.uploads() == []
    again = MemoryService(service.files.root / "again")
    with _api(again, url=gone) as http:
        assert "cannot be reached" in _refused(http.post("/v1/jobs", files=VIDEO, data=TEXT), 503, "voice_failed")


def test_the_key_comes_from_the_environment(
    service: MemoryService, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("VOICE_KEY", raising=False)
    with speaking(key="k-1") as voice, _api(service, url=voice.url, api_key_env="VOICE_KEY") as http:
        missing = http.post("/v1/jobs", files=VIDEO, data=TEXT)
        assert "VOICE_KEY is not set" in _refused(missing, 503, "voice_failed")
        monkeypatch.setenv("VOICE_KEY", "k-1")
        assert http.post("/v1/jobs", files=VIDEO, data=TEXT).status_code == 202


def test_post_jobs_with_all_voice_slots_taken_waits(service: MemoryService) -> None:
    with (
        speaking(hold=threading.Event()) as voice,
        _api(service, url=voice.url, max_concurrent=1) as http,
        ThreadPoolExecutor(4) as pool,
    ):
        answers = [pool.submit(http.post, "/v1/jobs", files=VIDEO, data=TEXT) for _ in range(4)]
        while not voice.asked:
            time.sleep(0.01)
        sound = {**VIDEO, "audio": ("a.wav", b"RIFF" + bytes(99))}
        assert http.post("/v1/jobs", files=sound).status_code == 202, "jobs with a file do not wait"
        assert len(voice.asked) == 1
        voice.hold.set()
        assert [answer.result(30).status_code for answer in answers] == [202] * 4


def test_post_jobs_without_a_voice_slot_in_time_gets_429(
    service: MemoryService, caplog: pytest.LogCaptureFixture
) -> None:
    with (
        speaking(hold=threading.Event()) as voice,
        _api(service, url=voice.url, max_concurrent=1, max_wait_s=0.2) as http,
        ThreadPoolExecutor(1) as pool,
    ):
        first = pool.submit(http.post, "/v1/jobs", files=VIDEO, data=TEXT)
        while not voice.asked:
            time.sleep(0.01)
        busy = http.post("/v1/jobs", files=VIDEO, data=TEXT)
        assert "no slot became free" in _refused(busy, 429, "over_capacity")
        assert int(busy.headers["retry-after"]) >= 1
        assert not [each for each in caplog.records if each.levelname == "ERROR"], "a busy voice is no failure"
        voice.hold.set()
        assert first.result(30).status_code == 202


@pytest.mark.parametrize("listed", [["alloy", "kim"], [{"id": "alloy"}, {"name": "kim"}, {}]])
def test_all_voices_of_a_server_are_listed(service: MemoryService, listed: list[Any]) -> None:
    with speaking(voices=listed) as voice, _api(service, url=voice.url, voice="kim") as http:
        assert http.get("/v1/voices").json()["voices"] == ["kim", "alloy"]


def test_a_server_that_cannot_list_voices_has_the_configured_one(service: MemoryService) -> None:
    with speaking() as voice, _api(service, url=voice.url + "/audio/speech") as http:
        assert http.get("/v1/voices").json()["voices"] == ["alloy"]
    with serving(service, tts=TtsConfig(use_builtin=False)) as url:
        none = httpx.get(f"{url}/v1/voices", trust_env=False).json()
        assert (none["is_available"], none["voices"], none["default"]) == (False, [], None)


def test_the_packaged_voice_speaks(service: MemoryService) -> None:
    pytest.importorskip("hibari", reason="needs the extra [tts]")
    with _api(service) as http:
        voices = http.get("/v1/voices").json()
        assert voices["default"] == voices["voices"][0] == "heart"
        jobs = [http.post("/v1/jobs", files=VIDEO, data={"text": "Good morning."}).json()["id"] for _ in range(2)]
        unknown = http.post("/v1/jobs", files=VIDEO, data={"text": "Hi.", "voice": "nobody"})
        assert "'nobody' is not installed" in _refused(unknown, 422, "option_invalid")
        silent = http.post("/v1/jobs", files=VIDEO, data={"text": "\u4f60\u597d"})
        assert "nothing that this voice can speak" in _refused(silent, 422, "option_invalid")
        late = TtsConfig(timeout_s=0.05)
    first, second = (on_disk(service.files, job_file_key(job)) for job in jobs)
    assert first.read_bytes() == second.read_bytes(), "the same text sounds the same"
    info = probe_audio(first, MediaLimits())
    assert (info.sample_rate, 0.5 < info.duration_seconds < 3) == (24000, True)
    again = MemoryService(service.files.root / "again")
    with serving(again, tts=late) as url, httpx.Client(base_url=url, timeout=60, trust_env=False) as http:
        _refused(http.post("/v1/jobs", files=VIDEO, data=TEXT), 504, "stage_timeout")
