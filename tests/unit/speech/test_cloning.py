"""Cloned voices: a recording is stored, passed on intact to a real speech server, and owned by an API key."""

from __future__ import annotations

import io
import json
import threading
import wave
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import av
import httpx
import numpy as np
import pytest
from typer.testing import CliRunner

from benchmarks.media_files import read_wav, wav_bytes
from lipwright.cli.main import app
from lipwright.config import CloningConfig, HeygemConfig, TtsConfig
from lipwright.errors import OptionError, StageTimeoutError, VoiceError
from lipwright.storage.file_keys import VOICES, voice_folder
from lipwright.storage.state import open_keys
from lipwright_client import Lipwright, ProblemError
from tests.unit.api_server import MemoryService, api_client, serving
from tests.unit.launch.fronted_api import needs_haproxy, running_front
from tests.unit.speech.speech_server import SpeechServer, speaking, tone
from tests.unit.speech.text_speaker import speaking_texts

SAMPLES = Path(__file__).parents[3] / "samples"
CHATTERBOX = CloningConfig(path="/audio/speech/upload", body="multipart", audio_field="voice_file", transcript_field="")


def _recording(seconds: float = 2.0) -> bytes:
    samples = np.random.default_rng(0).integers(-9000, 9000, round(seconds * 24000), dtype=np.int16)
    return wav_bytes(samples, 24000)


def _constant(value: float) -> bytes:
    """A WAV file of floats: two seconds of one value."""
    file = io.BytesIO()
    with av.open(file, "w", format="wav") as out:
        stream = out.add_stream("pcm_f32le", rate=24000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.full((1, 48000), value, np.float32), "flt", "mono")
        frame.sample_rate = 24000
        out.mux([*stream.encode(frame), *stream.encode(None)])
    return file.getvalue()


def _samples(wav: bytes) -> tuple[int, bytes]:
    with wave.open(io.BytesIO(wav)) as file:
        return file.getframerate(), file.readframes(file.getnframes())


@contextmanager
def _api(root: Path, cloning: CloningConfig, server: dict[str, Any] | None = None, **tts: Any) -> Iterator[Any]:
    """Serve the API with a speech server that clones; gives a client and that server."""
    with (
        speaking(**(server or {})) as voice,
        api_client(MemoryService(root), tts=TtsConfig(url=voice.url, cloning=cloning, **tts)) as http,
    ):
        yield http, voice


def _create(http: httpx.Client, name: str = "anna", wav: bytes | None = None, **fields: str) -> httpx.Response:
    audio = {"audio": ("anna.wav", _recording() if wav is None else wav)}
    return http.post("/v1/voices", files=audio, data={"name": name, **fields})


def _speak(root: Path, server: SpeechServer, voice: str = "anna", owner: str | None = None, **tts: Any) -> None:
    settings = TtsConfig(url=server.url, **{"cloning": CloningConfig(), "max_cache_bytes": 0, **tts})
    with speaking_texts(root, settings) as texts:
        texts.speak("Good day.", voice, owner)


def test_a_cloned_voice_speaks_with_the_recording_as_it_was_sent(tmp_path: Path) -> None:
    wav = _recording()
    with _api(tmp_path, CloningConfig()) as (http, server):
        created = _create(http, wav=wav, transcript="She says.")
        assert created.status_code == 201, created.text
        voices = http.get("/v1/voices").json()
        assert (voices["voices"], voices["can_clone"]) == (["alloy", "anna"], True)
        assert voices["cloned"] == [created.json()]
        assert created.json()["duration_seconds"] == 2.0
        damaged = tmp_path / voice_folder(None, "bob") / "voice.json"
        damaged.parent.mkdir()
        damaged.write_bytes(b'{"name": "')
        assert http.get("/v1/voices").json() == voices, "a damaged record is as good as none"
        damaged.unlink()
        _speak(tmp_path, server)
        _speak(tmp_path, server, "alloy")
        assert http.delete("/v1/voices/anna").status_code == 204
        assert http.delete("/v1/voices/anna").status_code == 404
        _speak(tmp_path, server)  # the server may know a voice of that name
    asked = {"model": "tts-1", "input": "Good day.", "response_format": "wav"}
    assert server.asked == [{**asked, "ref_text": "She says."}, {**asked, "voice": "alloy"}, {**asked, "voice": "anna"}]
    assert [_samples(sent) for sent in server.recordings] == [_samples(wav)]
    assert not [path for path in (tmp_path / VOICES).rglob("*") if path.is_file()], "a deleted recording is gone"


def test_a_server_that_takes_the_recording_as_a_file_of_a_form(tmp_path: Path) -> None:
    with _api(tmp_path, CHATTERBOX) as (http, server):
        assert _create(http, wav=(SAMPLES / "speech.wav").read_bytes()).status_code == 201
        _speak(tmp_path, server, cloning=CHATTERBOX)
    assert server.asked == [{"model": "tts-1", "input": "Good day.", "response_format": "wav"}]
    rate, samples = _samples(server.recordings[0])
    sent, sent_rate = read_wav(SAMPLES / "speech.wav")
    assert rate == 24000 and abs(len(samples) / 2 / rate - len(sent) / sent_rate) < 0.001


def test_create_voice_with_bad_input_stores_nothing(tmp_path: Path) -> None:
    cloning = CloningConfig(max_seconds=3, max_bytes=200_000, max_voices=2)
    with _api(tmp_path, cloning) as (http, _):

        def refused(status: int, words: str, *request: Any, **fields: Any) -> None:
            answer = _create(http, *request, **fields)
            assert answer.status_code == status and words in answer.json()["detail"], answer.text

        refused(413, "anna.wav: expected at most 3 s of audio", wav=_recording(4.0))
        refused(413, "more than 200000 bytes", wav=_recording(5.0))
        refused(422, "anna.wav", wav=b"no audio at all" * 9)
        for value in (np.nan, np.inf, 0):
            refused(422, "silent", wav=_constant(value))
        refused(422, "name", "../etc")
        refused(422, "transcript", transcript="x" * 1001)
        assert _create(http, "a").status_code == _create(http, "b").status_code == 201
        refused(409, "already a voice 'a'", "a")
        refused(422, "already 2 voices", "c")
        assert [voice["name"] for voice in http.get("/v1/voices").json()["cloned"]] == ["a", "b"]
    assert not list((tmp_path / "uploads").iterdir())
    assert len([path for path in (tmp_path / VOICES).rglob("*") if path.is_file()]) == 4


def test_create_voice_without_cloning_names_the_settings(tmp_path: Path) -> None:
    with speaking() as voice, api_client(MemoryService(tmp_path), tts=TtsConfig(url=voice.url)) as http:
        answer = _create(http)
        assert answer.status_code == 422 and "set tts.url and tts.cloning" in answer.json()["detail"]
        assert http.get("/v1/voices").json()["can_clone"] is False
    with pytest.raises(ValueError, match="needs tts.url"):
        TtsConfig(cloning=CloningConfig())


def test_failing_server_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hold, no_transcript = threading.Event(), r"voice 'anna', whose recording has no transcript \(status 400"
    with _api(tmp_path, CloningConfig()) as (http, server):
        assert _create(http).status_code == 201
        for name, value, error, words in (
            ("status", 500, VoiceError, "status 500"),
            ("needs_transcript", True, OptionError, no_transcript),
            ("hold", hold, StageTimeoutError, "timed out after 1 s"),
        ):
            with monkeypatch.context() as patched, pytest.raises(error, match=words):
                patched.setattr(server, name, value)
                _speak(tmp_path, server, timeout_s=1)
        hold.set()


def test_a_voice_belongs_to_its_api_key(tmp_path: Path) -> None:
    service = MemoryService(tmp_path)
    keys = open_keys(None, service.files.root)
    (anna_key, anna), (other_key, other) = (keys.add(name) for name in ("anna", "other"))
    with (
        speaking() as server,
        serving(service, tts=TtsConfig(url=server.url, cloning=CloningConfig())) as url,
        Lipwright(url, anna) as mine,
        Lipwright(url, other) as theirs,
    ):
        voice = mine.clone_voice("anna", _recording(), "Hello.")
        assert mine.voices().cloned == (voice,) and voice.transcript == "Hello."
        assert theirs.voices().cloned == ()
        _speak(tmp_path, server, owner=other_key.id)
        assert not server.recordings
        _speak(tmp_path, server, owner=anna_key.id)
        assert len(server.recordings) == 1
        with pytest.raises(ProblemError):
            theirs.delete_voice("anna")
        mine.delete_voice("anna")


def test_the_command_line_adds_lists_and_deletes_voices(tmp_path: Path) -> None:
    recording = tmp_path / "anna.wav"
    recording.write_bytes(_recording())
    with _api(tmp_path / "data", CloningConfig()) as (http, _):

        def run(*arguments: str) -> str:
            done = CliRunner().invoke(app, ["voices", *arguments, "--server", str(http.base_url)])
            assert done.exit_code == 0, done.output
            return done.stdout

        assert run("add", "anna", str(recording), "--transcript", "Hello.") == "anna\n"
        assert "2.0 s" in next(line for line in run("list").splitlines() if line.split()[0] == "anna")
        assert json.loads(run("list", "--json"))["cloned"][0]["transcript"] == "Hello."
        assert run("delete", "anna") == "deleted anna\n"


def test_heygem_voice_training_clones_the_recording(tmp_path: Path) -> None:
    recordings = tmp_path / "voice"
    (recordings / "origin_audio").mkdir(parents=True)
    (recordings / "origin_audio" / "person.wav").write_bytes(_recording())
    heygem = HeygemConfig(enabled=True, voice_root=recordings)
    training = {"format": ".wav", "reference_audio": "origin_audio/person.wav", "lang": "zh"}
    service, cloning = MemoryService(tmp_path / "data"), CloningConfig()
    with (
        speaking(sound=tone(0.2)) as server,
        api_client(service, heygem=heygem, tts=TtsConfig(url=server.url, cloning=cloning)) as http,
    ):
        for _ in range(2):  # a model can be trained again
            model = http.post("/v1/preprocess_and_tran", json=training).json()
            assert model["code"] == 0, model
        outside = http.post("/v1/preprocess_and_tran", json={**training, "reference_audio": "../secret.wav"}).json()
        assert outside["code"] == -1 and "data root" in outside["msg"]
        cloned, configured = (
            http.post("/v1/invoke", json={"text": "\u5927\u5bb6\u597d", "reference_audio": name})
            for name in (model["asr_format_audio_url"], "never/trained.wav")
        )
        assert cloned.content == configured.content == tone(0.2)
        (voice,) = http.get("/v1/voices").json()["cloned"]
        assert voice["name"] == "heygem:origin_audio/person.wav"
        assert http.delete("/v1/voices/heygem:origin_audio/person.wav").status_code == 204
    assert [_samples(sent) for sent in server.recordings] == [_samples(_recording())]
    assert server.asked[1]["voice"] == "alloy"


@needs_haproxy
def test_delete_voice_of_any_name_through_the_front_proxy(tmp_path: Path) -> None:
    with (
        _api(tmp_path, CHATTERBOX) as (http, _),
        running_front(http.base_url.port or 0) as (_, port),
        Lipwright(f"http://127.0.0.1:{port}") as client,
    ):
        http.base_url = f"http://127.0.0.1:{port}"
        for name in ("my voice", "J\u00fcrgen", "a.b-c_d", "100 \u58f0"):
            assert _create(http, name).status_code == 201, name
            client.delete_voice(name)
            assert _create(http, name).status_code == 201, name
            (voice,) = http.get("/v1/voices").json()["cloned"]
            assert http.delete(f"/v1/voices/{voice['id']}").status_code == 204, name
            assert http.get("/v1/voices").json()["cloned"] == []
        assert http.delete("/v1/voices/a%2Fb").status_code == 404
