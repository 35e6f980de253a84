"""Languages spoken by espeak-ng: the real program where it is installed, and programs in its place that misbehave."""

from __future__ import annotations

import asyncio
import io
import os
import shutil
import struct
import subprocess
import sys
import wave
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from lipwright.config import MediaLimits, TtsConfig
from lipwright.errors import OptionError, StageTimeoutError, VoiceError
from lipwright.jobs.speech_messages import ChosenVoices, VoiceRequest
from lipwright.media.phones import read_closures
from lipwright.media.probe import probe_audio
from lipwright.speech import espeak_backend, package_backend
from lipwright.speech.espeak_backend import EspeakBackend
from lipwright.speech.local_backend import LocalBackend
from tests.unit.speech.text_speaker import TextSpeaker, speaking_texts

NI_HAO = "你好，世界。今天天气很好。"

needs_espeak = pytest.mark.skipif(shutil.which("espeak-ng") is None, reason="needs the program espeak-ng")


@pytest.fixture
def api_settings() -> dict[str, Any]:
    pytest.importorskip("hibari", reason="needs the extra [tts]")
    return {"tts": TtsConfig()}


@pytest.fixture
def texts(tmp_path: Path) -> Iterator[TextSpeaker]:
    pytest.importorskip("hibari", reason="needs the extra [tts]")
    with speaking_texts(tmp_path / "data", TtsConfig()) as texts:
        yield texts


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program that is found in place of espeak-ng; tests write its code."""
    folder = tmp_path / "bin"
    folder.mkdir()
    program = folder / "espeak-ng"
    program.touch(0o755)
    (folder / "libespeak-ng.so.1").touch()
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setenv("LD_LIBRARY_PATH", str(folder))
    return program


def _said(backend: EspeakBackend | LocalBackend, text: str, voice: str) -> bytes:
    async def all_of_it() -> bytes:
        return b"".join([piece async for piece in backend.synthesize(text, voice)])

    return asyncio.run(all_of_it())


def _write(program: Path, code: str) -> None:
    program.write_text(f"#!{sys.executable} -IS\nimport sys, time\n{code}\n")


@needs_espeak
def test_a_text_in_a_language_without_builtin_voice_is_spoken(http: httpx.Client, texts: TextSpeaker) -> None:
    voices = http.get("/v1/voices").json()
    assert voices["default"] == voices["voices"][0] == "heart"
    assert {"espeak:cmn", "espeak:de", "espeak:fr-fr"} <= set(voices["voices"])
    assert not [voice for voice in voices["voices"] if voice.startswith("espeak:en")], "the built-in voice is better"
    sound = texts.speak(NI_HAO, "espeak:cmn")
    info = probe_audio(sound, MediaLimits())
    assert (info.sample_rate, info.num_channels, 1 < info.duration_seconds < 6) == (22050, 1, True)
    with wave.open(str(sound)) as file:  # the header has the real length
        assert sound.read_bytes()[-2 * file.getnframes() - 4 :][:4] == struct.pack("<I", file.getnframes() * 2)


@needs_espeak
def test_speak_is_deterministic_and_reads_no_options_or_markup() -> None:
    backend = EspeakBackend(TtsConfig())
    first, second = (_said(backend, NI_HAO, "espeak:cmn") for _ in range(2))
    assert first == second
    options = _said(backend, "--version", "espeak:de")
    marked = _said(backend, 'Hallo <audio src="/etc/hostname"/>', "espeak:de")
    for sound in (options, marked):
        with wave.open(io.BytesIO(sound)) as file:
            assert file.getnframes() / file.getframerate() > 0.3
    with pytest.raises(OptionError, match="nothing that this voice can speak"):
        _said(backend, " \n ", "espeak:de")


@needs_espeak
@pytest.mark.parametrize("voice", ["espeak:en", "espeak:fr-fr"])
def test_synthesize_sounds_like_the_program_and_tells_closures(tmp_path: Path, voice: str) -> None:
    text, sound = "A papa, a mama. A papa.", tmp_path / "a.wav"
    sound.write_bytes(_said(EspeakBackend(TtsConfig()), text, voice))
    command = ["espeak-ng", "--stdin", "--stdout", "-b", "1", "-v", voice.removeprefix("espeak:")]
    expected = subprocess.run(command, input=text.encode(), capture_output=True, check=True).stdout[44:]
    with wave.open(str(sound)) as file:
        assert file.readframes(file.getnframes()) == expected
    samples = np.abs(np.frombuffer(expected, "<i2").astype(np.float64))
    loud = [samples[round(start * 22050) : round(end * 22050)].mean() for start, end in read_closures(sound)]
    assert len(loud) == 6
    papa, mama = loud[:2] + loud[4:], loud[2:4]
    assert max(papa) < 0.1 * min(mama) < 0.1 * samples[samples > 100].mean()


@needs_espeak
@pytest.mark.parametrize("voice", ["espeak:nonesuch", "espeak:", "espeak:../../../etc/passwd", "espeak:--help", "kim"])
def test_only_installed_languages_are_voices(texts: TextSpeaker, voice: str) -> None:
    with pytest.raises(OptionError, match="is not installed. GET /v1/voices lists"):
        texts.speak("Hallo.", voice)


@needs_espeak
def test_language_gives_each_speaker_a_voice_that_speaks_it(texts: TextSpeaker) -> None:
    speakers = (("face 0", None), ("face 1", None), ("face 0", None), ("2", "espeak:de"))
    requests = [VoiceRequest(*each) for each in speakers]
    found = texts.choose_voices(*requests, language="deu")
    assert found == ChosenVoices(("espeak:de+f2", "espeak:de+m3", "espeak:de+f2", "espeak:de"), "deu")
    assert texts.choose_voices(VoiceRequest("0", None), language="deu") == ChosenVoices(("espeak:de",), "deu")
    assert texts.choose_voices(*requests, language=None).language is None, "two languages"
    assert texts.choose_voices(VoiceRequest("0", None), language=None) == ChosenVoices((None,), "eng")


def test_speak_by_the_builtin_voice_stores_closures(texts: TextSpeaker) -> None:
    cue = texts.run(texts.cue("A baby, a puppy."))
    with wave.open(str(texts.path(cue))) as file:
        samples = np.frombuffer(file.readframes(file.getnframes()), "<i2").astype(np.float64)
        loud = [samples[round(12000 * (a + b)) : round(24000 * b)].std() for a, b in cue.closures]
    assert len(loud) == 4 and max(loud) < 0.5 * samples[np.abs(samples) > 500].std(), "plosives are quiet"


@needs_espeak
def test_speak_without_builtin_voice_speaks_english(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(package_backend, "find_spec", lambda name: None)
    backend = LocalBackend(TtsConfig())
    assert backend.default_voice == "espeak:en-us"
    assert "espeak:en-us" in asyncio.run(backend.voices())
    assert _said(backend, "Good day.", "espeak:en-us").startswith(b"RIFF")


def test_speak_without_espeak_names_the_package(http: httpx.Client, texts: TextSpeaker, fake: Path) -> None:
    fake.unlink()
    assert not [voice for voice in http.get("/v1/voices").json()["voices"] if voice.startswith("espeak")]
    with pytest.raises(OptionError, match="'espeak:cmn' needs the program espeak-ng.*Debian package espeak-ng"):
        texts.speak(NI_HAO, "espeak:cmn")


_SHOW_LIMITS = """
import os, resource
bounds = [resource.getrlimit(each)[1] for each in (resource.RLIMIT_CPU, resource.RLIMIT_AS, resource.RLIMIT_FSIZE)]
sys.exit(0 if bounds == [7, 1 << 30, 0] and "PGPASSWORD" not in os.environ else 1)
"""


def test_espeak_that_misbehaves_is_stopped(fake: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGPASSWORD", "secret")
    cases: list[tuple[str, dict[str, Any], type[Exception], str]] = [
        ("time.sleep(60)", {"timeout_s": 0.5}, StageTimeoutError, "timed out after 0.5 s"),
        ("while True: sys.stdout.write('x' * 9999)", {"max_bytes": 100_000}, VoiceError, "more than 100000 bytes"),
        ("import os; os.abort()", {}, VoiceError, "status -6"),
        (_SHOW_LIMITS, {"timeout_s": 6.5}, OptionError, "nothing that this voice can speak"),  # status 0
    ]
    for code, settings, error, message in cases:
        _write(fake, code)
        with pytest.raises(error, match=message):
            _said(EspeakBackend(TtsConfig(**settings)), "Guten Tag.", "espeak:de")
        assert not [each for each in Path("/proc").glob("[0-9]*/cmdline") if str(fake).encode() in _read(each)], code


def test_speak_cancelled_ends_the_program(tmp_path: Path, fake: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    tells_its_id = f"with open({str(fifo)!r}, 'w') as fifo: fifo.write(str(os.getpid()))"
    _write(fake, f"import os\nif '--version' in sys.argv: sys.exit()\n{tells_its_id}\ntime.sleep(100)")

    async def scene(texts: TextSpeaker) -> None:
        call = asyncio.ensure_future(texts.cue("Hallo.", "espeak:de"))
        pid = int(await asyncio.to_thread(fifo.read_bytes))
        os.kill(pid, 0)
        call.cancel()
        await asyncio.wait([call])
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)

    with speaking_texts(tmp_path / "data", TtsConfig()) as texts:
        texts.run(scene(texts))
        assert texts.uploads() == []


def test_check_voice_with_busy_espeak_is_a_voice_error(fake: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    backend = EspeakBackend(TtsConfig())
    _write(fake, "time.sleep(60)")
    with monkeypatch.context() as patched, pytest.raises(VoiceError, match="timed out"):
        patched.setattr(espeak_backend, "_LIST_S", 0.5)
        asyncio.run(backend.check_voice("espeak:de"))
    _write(fake, "print('Pty Language\\n 5 de')")
    asyncio.run(backend.check_voice("espeak:de+f2"))
    with pytest.raises(OptionError, match="'espeak:tlh' is not installed"):
        asyncio.run(backend.check_voice("espeak:tlh"))


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError:
        return b""
