"""The texts of jobs: each is spoken once, kept for later jobs of the same caller, and what fails leaves nothing."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from config import MediaLimits, TtsConfig
from errors import CapacityError, LipwrightError, OptionError, StageTimeoutError, VoiceError
from jobs.model.files import new_id
from media.probe import probe_audio
from speech import cue_speaker
from storage.file_keys import job_folder
from tests.unit.speech.speech_server import SpeechServer, speaking, tone
from tests.unit.speech.text_speaker import TextSpeaker, speaking_texts

TEXT = "Hello there, \u4f60\u597d."


@pytest.fixture
def voice() -> Iterator[SpeechServer]:
    with speaking(sound=tone()) as voice:
        yield voice


def _texts(voice: SpeechServer) -> list[str]:
    return [asked["input"] for asked in voice.asked]


def test_speak_keeps_the_file_of_the_voice(tmp_path: Path, voice: SpeechServer) -> None:
    settings = TtsConfig(url=voice.url, model="kokoro", voice="af_heart")
    with speaking_texts(tmp_path, settings) as texts:
        assert texts.speak(TEXT).read_bytes() == tone()
        texts.speak(TEXT, "bf_emma")
        assert not texts.uploads()
    asked = {"model": "kokoro", "input": TEXT, "voice": "af_heart", "response_format": "wav"}
    assert voice.asked == [asked, {**asked, "voice": "bf_emma"}]


def test_speak_measures_the_speech_without_silence(tmp_path: Path) -> None:
    silent = tone(0.5)[:44] + bytes(2 * 24000)
    sound = tone(1.5)[:44] + tone(0.5)[44:] + silent[44:]
    with speaking(sound=sound) as voice, speaking_texts(tmp_path, TtsConfig(url=voice.url)) as texts:
        cue = texts.run(texts.cue(TEXT))
    assert cue.seconds == pytest.approx(0.5, abs=0.03)
    assert cue.num_bytes == len(sound)


def test_speak_of_a_known_text_asks_no_voice(tmp_path: Path, voice: SpeechServer) -> None:
    job_id = new_id()
    with speaking_texts(tmp_path, TtsConfig(url=voice.url)) as texts:
        first = texts.run(texts.cue(TEXT, job_id=job_id))
        assert texts.run(texts.cue(TEXT, job_id=job_id)) == first, "in the same job"
        later = texts.run(texts.cue(TEXT))
        assert (later.sha256, later.seconds) == (first.sha256, first.seconds), "in a later job"
        texts.files.stored.remove_folder(job_folder(job_id))
        assert texts.speak(TEXT).read_bytes() == tone(), "after the first job is deleted"
    assert len(voice.asked) == 1


def test_speak_without_a_cache_asks_once_per_job(tmp_path: Path, voice: SpeechServer) -> None:
    job_id = new_id()
    with speaking_texts(tmp_path, TtsConfig(url=voice.url, max_cache_bytes=0)) as texts:
        for _ in range(2):
            texts.run(texts.cue(TEXT, job_id=job_id))
        texts.speak(TEXT)
    assert len(voice.asked) == 2


@pytest.mark.parametrize("changed", ["text", "voice", "owner", "model"])
def test_speak_of_another_text_asks_the_voice(tmp_path: Path, voice: SpeechServer, changed: str) -> None:
    with speaking_texts(tmp_path, TtsConfig(url=voice.url)) as texts:
        texts.speak("Hello.", "nova", "a")
    asked = {"text": "Hello.", "voice": "nova", "owner": "a", **({changed: "other"} if changed != "model" else {})}
    settings = TtsConfig(url=voice.url, **({"model": "other"} if changed == "model" else {}))
    with speaking_texts(tmp_path, settings) as texts:
        texts.speak(**asked)
    assert len(voice.asked) == 2


def test_speak_with_a_damaged_file_asks_the_voice_again(tmp_path: Path, voice: SpeechServer) -> None:
    with speaking_texts(tmp_path, TtsConfig(url=voice.url)) as texts:
        texts.speak(TEXT)
        for file in tmp_path.rglob("*"):
            if file.is_file() and file.read_bytes() == tone():
                file.unlink()
                file.write_bytes(b"damaged")
        assert texts.speak(TEXT).read_bytes() == tone()
    assert len(voice.asked) == 2


def test_speak_of_one_text_by_several_jobs_asks_once(tmp_path: Path) -> None:
    async def speak(texts: TextSpeaker) -> list[bytes]:
        jobs = [asyncio.create_task(texts.cue(TEXT)) for _ in range(4)]
        await asyncio.to_thread(voice.wait_until_asked)
        jobs.pop(0).cancel()  # the others still wait for it
        voice.hold.set()
        return [texts.path(cue).read_bytes() for cue in await asyncio.gather(*jobs)]

    with (
        speaking(hold=threading.Event()) as voice,
        speaking_texts(tmp_path, TtsConfig(url=voice.url)) as texts,
    ):
        assert texts.run(speak(texts)) == [tone()] * 3
    assert len(voice.asked) == 1


@pytest.mark.parametrize(
    ("answers", "expected", "words"),
    [
        ({"status": 400}, OptionError, "rejected this text with voice 'alloy'"),
        ({"status": 500}, VoiceError, "status 500"),
        ({"key": "other"}, VoiceError, "status 401"),
        ({"content_type": "application/json"}, VoiceError, "text instead of audio"),
        ({"sound": b""}, VoiceError, "returned no audio"),
        ({"sound": bytes(70_000)}, VoiceError, "more than 60000 bytes"),
        ({"sound": b"RIFF" + bytes(100)}, VoiceError, "audio that cannot be used"),
    ],
)
def test_speak_with_a_voice_that_fails_leaves_nothing(
    tmp_path: Path, answers: dict[str, Any], expected: type[LipwrightError], words: str
) -> None:
    with (
        speaking(**answers) as voice,
        speaking_texts(tmp_path, TtsConfig(url=voice.url, max_bytes=60_000)) as texts,
    ):
        with pytest.raises(expected, match=words):
            texts.speak(TEXT)
        assert not texts.uploads()
    assert len(voice.asked) == 1
    assert not [file for file in tmp_path.rglob("*") if file.is_file()]


def test_speak_with_a_voice_that_hangs_times_out(tmp_path: Path) -> None:
    with (
        speaking(hold=threading.Event()) as voice,
        speaking_texts(tmp_path, TtsConfig(url=voice.url, timeout_s=0.3)) as texts,
    ):
        with pytest.raises(StageTimeoutError, match=r"timed out after 0.3 s") as caught:
            texts.speak(TEXT)
        assert not texts.uploads()
    assert caught.value.was_retried, "the Director must not repeat it"
    assert len(voice.asked) == 1


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_speak_with_a_busy_server_asks_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: int) -> None:
    monkeypatch.setattr(cue_speaker, "RETRY_PAUSES_S", (0.01, 0.5, 5.0))
    with speaking(status=status) as voice, speaking_texts(tmp_path, TtsConfig(url=voice.url)) as texts:

        def recover() -> None:
            voice.wait_until_asked(2)
            voice.status = 200

        waiting = threading.Thread(target=recover)
        waiting.start()
        assert texts.speak(TEXT).read_bytes() == tone()
        waiting.join()


def test_speak_with_a_server_that_is_gone_fails_after_retries(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(cue_speaker, "RETRY_PAUSES_S", (0.01, 0.02))
    with speaking() as voice:
        gone = TtsConfig(url=voice.url)
    with speaking_texts(tmp_path, gone) as texts, pytest.raises(VoiceError, match="cannot be reached") as caught:
        texts.speak(TEXT)
    assert caught.value.is_unreachable
    assert [record.getMessage().partition(" Next")[2] for record in caplog.records] == [
        " attempt in 0.01 s.",
        " attempt in 0.02 s.",
    ]


def test_speak_with_a_key_reads_it_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VOICE_KEY", raising=False)
    with (
        speaking(key="k-1") as voice,
        speaking_texts(tmp_path, TtsConfig(url=voice.url, api_key_env="VOICE_KEY")) as texts,
    ):
        with pytest.raises(VoiceError, match="VOICE_KEY is not set"):
            texts.speak(TEXT)
        monkeypatch.setenv("VOICE_KEY", "k-1")
        assert texts.speak(TEXT).read_bytes() == tone()


def test_speak_without_a_free_slot_waits_or_is_refused(tmp_path: Path) -> None:
    async def speak(texts: TextSpeaker) -> None:
        first = asyncio.create_task(texts.cue("one"))
        await asyncio.to_thread(voice.wait_until_asked)
        with pytest.raises(CapacityError, match="no slot became free"):
            await texts.cue("two")
        later = asyncio.create_task(texts.cue("three"))
        await asyncio.sleep(0.05)
        assert _texts(voice) == ["one"]
        voice.hold.set()
        await asyncio.gather(first, later)

    settings = {"max_concurrent": 1, "max_wait_s": 1.0}
    with (
        speaking(hold=threading.Event()) as voice,
        speaking_texts(tmp_path, TtsConfig(url=voice.url, **settings)) as texts,
    ):
        texts.run(speak(texts))
        assert not texts.uploads()
    assert _texts(voice) == ["one", "three"]


def test_speak_with_the_packaged_voice_sounds_the_same_twice(tmp_path: Path) -> None:
    pytest.importorskip("hibari", reason="needs the extra [tts]")
    with speaking_texts(tmp_path, TtsConfig(max_cache_bytes=0)) as texts:
        first, second = texts.speak("Good morning."), texts.speak("Good morning.")
        assert first.read_bytes() == second.read_bytes()
        info = probe_audio(first, MediaLimits())
        assert (info.sample_rate, 0.5 < info.duration_seconds < 3) == (24000, True)
        with pytest.raises(OptionError, match="'nobody' is not installed"):
            texts.speak("Hi.", "nobody")
        with pytest.raises(OptionError, match="nothing that this voice can speak"):
            texts.speak("\u4f60\u597d")
    with speaking_texts(tmp_path, TtsConfig(timeout_s=0.05)) as late, pytest.raises(StageTimeoutError):
        late.speak("Good evening.")
