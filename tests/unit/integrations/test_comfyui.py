"""The ComfyUI node, loaded as ComfyUI loads a folder of `custom_nodes`, over stand-ins of the published interface."""

from __future__ import annotations

import asyncio
import importlib.util
import inspect
import io
import json
import sys
import wave
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from lipwright import errors
from lipwright.jobs.model.record import JobStatus
from lipwright.storage.file_keys import job_file_key, upload_key
from lipwright.storage.local.api_keys import FileKeyRing
from lipwright_client import FaceNotFoundError, OptionError, UnauthorizedError
from tests.unit.api_server import VIDEO_BYTES, MemoryService, SentJob
from tests.unit.on_disk import on_disk

_FOLDER = Path(__file__).parents[3] / "integrations" / "comfyui"


@contextmanager
def loaded_node() -> Iterator[ModuleType]:
    """Load the node's package for the block."""
    stand_in, name, before = str(Path(__file__).with_name("comfy_stand_in")), "lipwright_node", set(sys.modules)
    sys.path.insert(0, stand_in)
    try:
        place = [str(_FOLDER)]
        spec = importlib.util.spec_from_file_location(name, _FOLDER / "__init__.py", submodule_search_locations=place)
        assert spec is not None and spec.loader is not None
        module = sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        yield module
    finally:
        sys.path.remove(stand_in)
        for each in set(sys.modules) - before:
            if each.partition(".")[0] in ("comfy", "comfy_api", "folder_paths", name):
                del sys.modules[each]


pytestmark = pytest.mark.usefixtures("own_temp_folder")


@pytest.fixture
def comfy() -> Iterator[ModuleType]:
    """The node's package."""
    with loaded_node() as module:
        yield module


@pytest.fixture
def url(url: str, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("LIPWRIGHT_URL", url)
    return url


def _audio() -> dict[str, Any]:
    return {"waveform": torch.tensor([[[0.0, 0.5, -2.0], [1.0, 0.0, 0.25]]]), "sample_rate": 44100}


def _node(comfy: ModuleType) -> Any:
    async def node() -> Any:
        (found,) = await (await comfy.comfy_entrypoint()).get_node_list()
        return found

    return asyncio.run(node())


def _run(comfy: ModuleType, **inputs: Any) -> Any:
    return asyncio.run(_node(comfy).execute(**{"audio": _audio(), **inputs})).args


PICTURE = torch.zeros(1, 2, 2, 3)


def _sent(service: MemoryService, request: SentJob) -> bytes:
    assert request.video is not None
    return on_disk(service.files, upload_key(request.video.key)).read_bytes()


def test_define_schema_inputs_equal_execute_parameters(comfy: ModuleType) -> None:
    schema = _node(comfy).define_schema()
    parameters = inspect.signature(_node(comfy).execute).parameters
    assert [each.id for each in schema.inputs] == list(parameters)
    assert all(each.is_optional for each in schema.inputs)
    for each in schema.inputs:
        assert each.default is None or each.default == parameters[each.id].default
    assert [each.kind for each in schema.outputs] == ["VIDEO", "STRING"]


def test_execute_with_video_returns_result(comfy: ModuleType, service: MemoryService, url: str, tmp_path: Path) -> None:
    from comfy_api import latest  # type: ignore[import-not-found, unused-ignore]

    service.outcome = "video"
    (tmp_path / "film.mp4").write_bytes(b"film")
    video, job_id = _run(comfy, video=latest.VideoFromFile(str(tmp_path / "film.mp4")), loop="hold", face="0")
    assert Path(video.file).read_bytes() == VIDEO_BYTES
    (request,) = service.requests
    assert (request.job_id, request.options.loop, request.options.face) == (job_id, "hold", "0")
    assert _sent(service, request) == b"film"
    with wave.open(io.BytesIO(on_disk(service.files, job_file_key(job_id)).read_bytes())) as sound:
        assert (sound.getframerate(), sound.getnchannels(), sound.getsampwidth()) == (44100, 2, 2)
        samples = np.frombuffer(sound.readframes(9), "<i2").reshape(-1, 2)
    assert samples.tolist() == [[0, 32767], [16384, 0], [-32767, 8192]]
    assert latest.progress[-1] == (1.0, 1.0)


def test_execute_sends_background_crop_and_size(comfy: ModuleType, service: MemoryService, url: str) -> None:
    service.outcome = "video"
    _run(comfy, image=PICTURE, background="blur", crop="9:16", quality="best")
    _run(comfy, image=PICTURE, background_file=torch.ones(1, 4, 6, 3), size="1080x1920")
    blurred, behind = service.requests
    assert (blurred.options.background, blurred.options.crop, blurred.options.size) == ("blur", "9:16", None)
    assert (blurred.options.quality, behind.options.quality) == ("best", "balanced")
    assert (behind.options.background, behind.options.crop, behind.options.size) == (None, None, "1080x1920")
    assert behind.background_file is not None
    sent = Image.open(on_disk(service.files, job_file_key(behind.job_id, "background")))
    assert (sent.format, sent.size, sent.getpixel((0, 0))) == ("PNG", (6, 4), (255, 255, 255))


def test_execute_sends_turns_and_their_audio(comfy: ModuleType, service: MemoryService, url: str) -> None:
    service.outcome = "video"
    turns = [{"start": 0.0, "face": "0"}, {"start": 1.0, "end": 2.0, "face": "1", "audio": "audio_3"}]
    _run(comfy, image=PICTURE, turns=json.dumps(turns), audio_3=_audio())
    (request,) = service.requests
    assert [turn.model_dump(exclude_unset=True) for turn in request.spec.turns or ()] == turns
    third = on_disk(service.files, job_file_key(request.job_id, "audio_3"))
    with wave.open(io.BytesIO(third.read_bytes())) as sound:
        assert sound.getnframes() == 3
    with pytest.raises(ValueError, match="turns: expected JSON"):
        _run(comfy, image=PICTURE, turns="[{")
    with pytest.raises(OptionError, match="audio_2 needs turns"):
        _run(comfy, image=PICTURE, audio_2=_audio())
    subtitles = "1\n00:00:01,000 --> 00:00:02,000\nANNA: Grüß Gott\n"
    rttm = "SPEAKER a 1 0.5 1.5 <NA> <NA> Anna <NA> <NA>\n"
    speakers = '{"Anna": {"face": "1", "voice": "nova"}}'
    _run(comfy, audio=None, image=PICTURE, subtitles=subtitles, speakers=speakers, url=url)
    _run(comfy, image=PICTURE, diarization=rttm, speakers='{"Anna": {"face": "1"}}', url=url)
    (spoken,), (diarized,) = (request.options.turns or () for request in service.requests[1:])
    assert (spoken.face, spoken.voice, spoken.text) == ("1", "nova", "Grüß Gott")
    assert (diarized.face, diarized.start, diarized.end) == ("1", 0.5, 2.0)


def test_execute_sends_images_as_png_or_video(comfy: ModuleType, service: MemoryService, url: str) -> None:
    service.outcome = "video"
    picture = torch.zeros(1, 4, 6, 3)
    picture[..., 0] = 1.0
    _run(comfy, image=picture)
    with Image.open(io.BytesIO(_sent(service, service.requests[-1]))) as png:
        assert (png.format, png.size, png.getpixel((0, 0))) == ("PNG", (6, 4), (255, 0, 0))
    _run(comfy, image=torch.zeros(3, 4, 6, 4), fps=29.97)
    assert _sent(service, service.requests[-1]) == b"(3, 4, 6, 3) at 2997/100"


def test_execute_without_exactly_one_face_is_refused(comfy: ModuleType, service: MemoryService, url: str) -> None:
    for wrong in ({}, {"image": PICTURE, "avatar_id": "a"}):
        with pytest.raises(ValueError, match="exactly one"):
            _run(comfy, **wrong)
    service.outcome = errors.FaceNotFoundError("no face")
    with pytest.raises(FaceNotFoundError):
        _run(comfy, image=PICTURE)


def test_execute_interrupted_cancels_the_job(comfy: ModuleType, service: MemoryService, url: str) -> None:
    from comfy import model_management  # type: ignore[import-not-found, unused-ignore]

    model_management.is_interrupted = True
    with pytest.raises(model_management.InterruptProcessingException):
        _run(comfy, image=PICTURE)
    assert service.table.get_job(service.requests[-1].job_id).status is JobStatus.CANCELLED


def test_execute_other_url_does_not_get_the_api_key(
    comfy: ModuleType, service: MemoryService, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, key = FileKeyRing(service.files.root).add("me")
    monkeypatch.setenv("LIPWRIGHT_API_KEY", key)
    service.outcome = "video"
    assert _run(comfy, image=PICTURE)
    assert _run(comfy, image=PICTURE, url=f"{url}/")
    monkeypatch.setenv("LIPWRIGHT_URL", "http://127.0.0.1:9")
    with pytest.raises(UnauthorizedError):
        _run(comfy, image=PICTURE, url=url)
