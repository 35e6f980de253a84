"""Texts of jobs, spoken and recorded by the SpeechSynthesis of a running service."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path
from typing import Any

import pytest
from ray import serve
from ray.serve.handle import DeploymentHandle

from deployments.runtime.stages import ServeStages
from lipwright.config import MediaLimits, PipelineConfig
from lipwright.errors import OptionError
from lipwright.jobs.model.base import new_id
from lipwright.jobs.ports import Stages
from lipwright.jobs.speech_messages import ChosenVoices, PlacedCue, RecordedSpeech, VoiceRequest
from lipwright.media.dubbing.slots import SpeechSlot
from lipwright.media.probe import probe_audio
from lipwright.storage.cues import SpokenCue
from lipwright.storage.file_keys import cues_folder, job_folder
from lipwright.storage.local.folder import LocalFiles
from lipwright.telemetry.log_context import CallContext

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("espeak-ng") is None, reason="needs the program espeak-ng"),
]

CONTEXT = CallContext("job")


@pytest.fixture
def stages(service_url: str) -> Stages:
    handle: DeploymentHandle[Any] = serve.get_deployment_handle("SpeechSynthesis", "lipwright")
    return ServeStages(PipelineConfig(), handle, handle, handle, handle, handle)


@pytest.fixture
def folder(service_data: Path) -> str:
    """The folder of a job."""
    folder = job_folder(new_id())
    LocalFiles(service_data).make_folder(folder)
    return folder


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


def test_speak_with_an_unknown_voice_is_refused(stages: Stages, folder: str) -> None:
    with pytest.raises(OptionError, match="'espeak:nonesuch' is not installed"):
        asyncio.run(stages.speak(CONTEXT, "Guten Tag.", "espeak:nonesuch", None, folder))
