"""Texts of live sessions, spoken by a SpeechSynthesis whose voice server answers when the test says so."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine, Iterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import psutil
import pytest
from ray import serve
from ray.serve.handle import DeploymentHandle

from deployments.runtime.speech_client import SpeechClient
from deployments.speech_synthesis import SpeechSynthesis
from lipwright.config import PipelineConfig, TtsConfig
from lipwright.errors import OptionError, ReplicaLostError
from lipwright.jobs.model.base import new_id
from lipwright.jobs.model.compute import received
from lipwright.storage.file_keys import job_folder
from lipwright.storage.local.folder import LocalFiles
from lipwright.telemetry.log_context import CallContext
from tests.unit.speech.speech_server import SpeechServer, speaking, tone
from tests.waiting import until

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("service_url")]

APP = "Voices"
BOUND_S = 60.0


class Voices:
    """A SpeechSynthesis with one slot for each purpose, and its voice server."""

    def __init__(self, server: SpeechServer, handle: DeploymentHandle[Any], settings: TtsConfig, data: Path) -> None:
        self.server, self.handle, self._data = server, handle, data
        self.client = SpeechClient(handle, settings)

    async def spoken(self, text: str) -> bytes:
        """Return the speech of a live session."""
        return b"".join([piece async for piece in self.client.synthesize(text, None, None, "live")])

    def cue(self, text: str, attempt: int = 1) -> Any:
        """Speak a text of a job."""
        folder = job_folder(new_id())
        LocalFiles(self._data).make_folder(folder)
        return self.handle.speak.remote(CallContext("job", attempt=attempt), text, None, None, folder)

    async def until_asked(self, *texts: str) -> None:
        await until(lambda: [asked["input"] for asked in self.server.asked] == list(texts), BOUND_S)


@pytest.fixture
def voices(tmp_path: Path) -> Iterator[Voices]:
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


def run(scene: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(scene, 3 * BOUND_S))


def test_synthesize_for_live_does_not_wait_for_jobs(voices: Voices) -> None:
    async def scene() -> None:
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

    run(scene())


def test_synthesize_that_is_closed_frees_its_slot(voices: Voices) -> None:
    async def scene() -> None:
        async with aclosing(voices.client.synthesize("interrupted", None, None, "live")) as pieces:
            first = asyncio.create_task(anext(pieces))
            await voices.until_asked("interrupted")
            first.cancel()
            await asyncio.gather(first, return_exceptions=True)
        following = asyncio.create_task(voices.spoken("next"))
        await voices.until_asked("interrupted", "next")
        voices.server.hold.set()
        assert await following == tone(60.0)

    run(scene())


def test_synthesize_that_is_read_slowly_holds_no_slot(voices: Voices) -> None:
    async def scene() -> None:
        voices.server.hold.set()
        async with aclosing(voices.client.synthesize("played slowly", None, None, "live")) as pieces:
            beginning = await anext(pieces)
            assert await voices.spoken("another") == tone(60.0)
            assert beginning + b"".join([piece async for piece in pieces]) == tone(60.0)

    run(scene())


def test_synthesize_whose_replica_dies_fails_and_the_next_works(voices: Voices) -> None:
    async def scene() -> None:
        lost = asyncio.create_task(voices.spoken("lost"))
        await voices.until_asked("lost")
        _replica().kill()
        with pytest.raises(ReplicaLostError, match="Try again"):
            await lost
        voices.server.hold.set()
        assert await voices.spoken("next") == tone(60.0)

    run(scene())


def test_synthesize_with_a_text_that_is_too_long_is_refused(voices: Voices) -> None:
    with pytest.raises(OptionError, match="at most 4096 characters"):
        run(_ignored(voices.spoken("x" * 4097)))
    assert asyncio.run(voices.client.voices()) == ["alloy"]
    asyncio.run(voices.client.check_voice("alloy"))


async def _ignored(work: Coroutine[Any, Any, bytes]) -> None:
    await work


def _replica() -> psutil.Process:
    titles = {each: each.info["cmdline"] for each in psutil.process_iter(["cmdline"])}
    (replica,) = (each for each, title in titles.items() if title and title[0].startswith(f"ray::ServeReplica:{APP}:"))
    return replica
