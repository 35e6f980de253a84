from __future__ import annotations

import asyncio
import shutil
import threading
from collections.abc import Iterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import psutil
import pytest
from ray import serve
from ray.serve.handle import DeploymentHandle

from config import MediaLimits, PipelineConfig, TtsConfig
from deployments.runtime.speech_client import SpeechClient
from deployments.runtime.stages import ServeStages
from deployments.speech_synthesis import SpeechSynthesis
from errors import OptionError, ReplicaLostError
from jobs.model.base import new_id
from jobs.model.compute import received
from jobs.ports import Stages
from jobs.speech_messages import ChosenVoices, PlacedCue, RecordedSpeech, VoiceRequest
from media.dubbing.slots import SpeechSlot
from media.probe import probe_audio
from storage.cues import SpokenCue
from storage.file_keys import cues_folder, job_folder
from storage.local.folder import LocalFiles
from telemetry.log_context import CallContext
from tests.unit.speech.speech_server import SpeechServer, speaking, tone
from tests.waiting import until

pytestmark = pytest.mark.slow
needs_espeak = pytest.mark.skipif(shutil.which("espeak-ng") is None, reason="needs the program espeak-ng")

CONTEXT = CallContext("job")


@pytest.fixture
def stages(service_url: str) -> Stages:
    handle: DeploymentHandle[Any] = serve.get_deployment_handle("SpeechSynthesis", "lipwright")
    return ServeStages(PipelineConfig(), handle, handle, handle, handle, handle)


@pytest.fixture
def folder(service_data: Path) -> str:
    folder = job_folder(new_id())
    LocalFiles(service_data).make_folder(folder)
    return folder


@needs_espeak
def test_speak_and_record_speech_write_the_files_of_a_job(stages: Stages, folder: str, service_data: Path) -> None:
    async def scene() -> tuple[list[SpokenCue], RecordedSpeech]:
        chosen = await stages.choose_voices(CONTEXT, [VoiceRequest("a", None), VoiceRequest("b", None)], "deu")
        assert chosen == ChosenVoices(("espeak:de", "espeak:de+f2"), "deu")
        cues = await asyncio.gather(
            *(stages.speak(CONTEXT, "Guten Tag.", voice, "owner", folder) for voice in (*chosen.voices, "espeak:de"))
        )
        placed = [PlacedCue(cue.key, SpeechSlot(3.0 * n, 3.0 * n + 2, 3.0 * n + 3), "") for n, cue in enumerate(cues)]
        return cues, await stages.record_speech(CONTEXT, placed, f"{folder}/audio")

    cues, recorded = asyncio.run(scene())
    assert cues[0] == cues[2] and cues[0].key != cues[1].key and 0.5 < cues[0].seconds < 1.5
    assert [cue.audio_start for cue in recorded.cues] == [0, 2, 4]
    assert probe_audio(service_data / folder / "audio", MediaLimits()).duration_seconds == pytest.approx(6)
    assert len([key for key in LocalFiles(service_data).states(cues_folder("owner")) if not key.endswith(".json")]) == 2


@needs_espeak
def test_speak_with_an_unknown_voice_is_refused(stages: Stages, folder: str) -> None:
    with pytest.raises(OptionError, match="'espeak:nonesuch' is not installed"):
        asyncio.run(stages.speak(CONTEXT, "Guten Tag.", "espeak:nonesuch", None, folder))


APP = "Voices"
BOUND_S = 60.0


class Voices:
    """A SpeechSynthesis with one slot for each purpose, and its voice server."""

    def __init__(self, server: SpeechServer, handle: DeploymentHandle[Any], settings: TtsConfig, data: Path) -> None:
        self.server, self.handle, self._data = server, handle, data
        self.client = SpeechClient(handle, settings)

    async def spoken(self, text: str) -> bytes:
        return b"".join([piece async for piece in self.client.synthesize(text, None, None, "live")])

    def cue(self, text: str, attempt: int = 1) -> Any:
        folder = job_folder(new_id())
        LocalFiles(self._data).make_folder(folder)
        return self.handle.speak.remote(CallContext("job", attempt=attempt), text, None, None, folder)

    async def until_asked(self, *texts: str) -> None:
        await until(lambda: [asked["input"] for asked in self.server.asked] == list(texts), BOUND_S)


@pytest.fixture
def voices(tmp_path: Path, service_url: str) -> Iterator[Voices]:
    with speaking(hold=threading.Event(), sound=tone(60.0)) as server:
        settings = TtsConfig(url=server.url, max_concurrent=1, max_wait_s=BOUND_S)
        options = {"ray_actor_options": {"num_cpus": 0}, "max_ongoing_requests": 64, "health_check_period_s": 1}
        deployment = SpeechSynthesis.options(**options)  # type: ignore[attr-defined]
        config = PipelineConfig(data_dir=tmp_path, tts=settings)
        handle: DeploymentHandle[Any] = serve.run(deployment.bind(config), name=APP, route_prefix=None)
        try:
            yield Voices(server, handle, settings, tmp_path)
        finally:
            serve.delete(APP)


async def test_synthesize_for_live_does_not_wait_for_jobs(voices: Voices) -> None:
    cues = [voices.cue("cue 1"), voices.cue("cue 2")]
    await until(lambda: len(voices.server.asked) == 1, BOUND_S)
    retried = voices.cue("cue 3", attempt=2)  # runs exclusively
    first = voices.server.asked[0]["input"]
    live = asyncio.create_task(voices.spoken("live"))
    await voices.until_asked(first, "live")
    voices.server.hold.set()
    assert await live == tone(60.0)
    for cue in (*cues, retried):
        assert received(await cue).seconds == pytest.approx(60, abs=0.1)


async def test_synthesize_that_is_closed_frees_its_slot(voices: Voices) -> None:
    async with aclosing(voices.client.synthesize("interrupted", None, None, "live")) as pieces:
        first = asyncio.create_task(anext(pieces))
        await voices.until_asked("interrupted")
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
    following = asyncio.create_task(voices.spoken("next"))
    await voices.until_asked("interrupted", "next")
    voices.server.hold.set()
    assert await following == tone(60.0)


async def test_synthesize_that_is_read_slowly_holds_no_slot(voices: Voices) -> None:
    voices.server.hold.set()
    async with aclosing(voices.client.synthesize("played slowly", None, None, "live")) as pieces:
        beginning = await anext(pieces)
        assert await voices.spoken("another") == tone(60.0)
        assert beginning + b"".join([piece async for piece in pieces]) == tone(60.0)


async def test_synthesize_whose_replica_dies_fails_and_the_next_works(voices: Voices) -> None:
    lost = asyncio.create_task(voices.spoken("lost"))
    await voices.until_asked("lost")
    _replica().kill()
    with pytest.raises(ReplicaLostError, match="Try again"):
        await lost
    voices.server.hold.set()
    assert await voices.spoken("next") == tone(60.0)


async def test_synthesize_with_a_text_that_is_too_long_is_refused(voices: Voices) -> None:
    with pytest.raises(OptionError, match="at most 4096 characters"):
        await voices.spoken("x" * 4097)
    assert await voices.client.voices() == ["alloy"]


def _replica() -> psutil.Process:
    titles = {each: each.info["cmdline"] for each in psutil.process_iter(["cmdline"])}
    (replica,) = (each for each, title in titles.items() if title and title[0].startswith(f"ray::ServeReplica:{APP}:"))
    return replica
