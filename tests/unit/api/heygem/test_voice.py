"""The voice service as HeyGem's desktop client uses it: a model is created by training its voice, then it speaks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from config import HeygemConfig, TtsConfig
from tests.unit.api_server import MemoryService, api_client, serving
from tests.unit.speech.speech_server import SpeechServer, speaking, tone

AXIOS = {"Accept": "application/json, text/plain, */*", "User-Agent": "axios/1.7.9"}
TRAINING = {"format": ".wav", "reference_audio": "origin_audio/20261128_person.wav", "lang": "zh"}


@contextmanager
def _desktop(tmp_path: Path, **speech: Any) -> Iterator[tuple[httpx.Client, SpeechServer]]:
    with (
        speaking(sound=tone(0.2), **speech) as voice,
        serving(MemoryService(tmp_path), heygem=HeygemConfig(enabled=True), tts=TtsConfig(url=voice.url)) as url,
        httpx.Client(base_url=url, timeout=60, trust_env=False, headers=AXIOS) as http,
    ):
        yield http, voice


def _invocation(model: dict[str, Any], text: str) -> dict[str, Any]:
    """The desktop client's request, field by field."""
    return {
        "speaker": "f1c2a8f0-8f4e-4d55-9d5e-2f1f1d3b8c55",
        "text": text,
        "format": "wav",
        "topP": 0.7,
        "max_new_tokens": 1024,
        "chunk_length": 100,
        "repetition_penalty": 1.2,
        "temperature": 0.7,
        "need_asr": False,
        "streaming": False,
        "is_fixed_seed": 0,
        "is_norm": 1,
        "reference_audio": model["asr_format_audio_url"],
        "reference_text": model["reference_audio_text"],
    }


def test_the_desktop_client_creates_a_model_and_lets_it_speak(tmp_path: Path) -> None:
    with _desktop(tmp_path) as (http, voice):
        model = http.post("/v1/preprocess_and_tran", json=TRAINING).json()
        assert model["code"] == 0
        spoken = http.post("/v1/invoke", json=_invocation(model, "大家好。"))
        assert (spoken.status_code, spoken.headers["content-type"]) == (200, "audio/wav")
        assert spoken.content == tone(0.2)
        assert [(asked["input"], asked["voice"]) for asked in voice.asked] == [("大家好。", "alloy")]


def test_what_cannot_be_spoken_says_why(tmp_path: Path) -> None:
    with _desktop(tmp_path, status=500) as (http, _):
        model = http.post("/v1/preprocess_and_tran", json=TRAINING).json()
        failed = http.post("/v1/invoke", json=_invocation(model, "Hello."))
        assert (failed.status_code, failed.json()["code"]) == (503, -1) and "status 500" in failed.json()["msg"]
        empty = http.post("/v1/invoke", json=_invocation(model, " "))
        assert (empty.status_code, empty.json()) == (422, {"code": -1, "msg": "text is required"})
        assert http.post("/v1/preprocess_and_tran", json={}).json()["code"] == -1
        assert http.post("/v1/preprocess_and_tran", content=b"[").json()["code"] == -1
        assert http.post("/v1/invoke", content=b" " * 70_000).status_code == 422


def test_without_a_voice_the_client_is_told_so(tmp_path: Path) -> None:
    with api_client(
        MemoryService(tmp_path), heygem=HeygemConfig(enabled=True), tts=TtsConfig(use_builtin=False)
    ) as http:
        refused = http.post("/v1/preprocess_and_tran", json=TRAINING).json()
        assert refused["code"] == -1 and "has no voice" in refused["msg"]


def test_the_voice_service_is_part_of_the_heygem_dialect(tmp_path: Path) -> None:
    with speaking() as voice, serving(MemoryService(tmp_path), tts=TtsConfig(url=voice.url)) as url:
        assert httpx.post(f"{url}/v1/invoke", json={"text": "Hello."}, trust_env=False).status_code in (404, 405)
