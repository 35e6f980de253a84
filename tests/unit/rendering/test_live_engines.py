import asyncio
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from models.engines.protocol import ComputeResources, EngineSettings
from models.engines.wav2lip.engine import Wav2LipEngine
from models.speech.stream import SpeechStream
from rendering.live_chunk import LiveChunk
from tests.unit.models.engines.brought import Brought
from tests.unit.models.engines.wav2lip.networks import save_onnx
from tests.unit.models.synthetic_avatar import make_avatar
from tests.unit.rendering.test_live_renderer import NUM, RATE, Studio, pictures


def _studio(folder: Path, resources: ComputeResources | None = None) -> Studio:
    (folder / "weights").mkdir(parents=True)
    save_onnx(folder / "weights" / "generator", size=32)
    engine = Wav2LipEngine(EngineSettings(Brought({"generator": folder / "weights" / "generator"}), {}))
    return Studio(make_avatar(folder, 0.14), folder, engine, resources)


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Studio:
    return _studio(tmp_path_factory.mktemp("wav2lip"))


@pytest.fixture(scope="module")
def voice() -> NDArray[np.int16]:
    noise = np.random.default_rng(5).normal(0, 6000, 2 * RATE)
    return noise.clip(-32768, 32767).astype(np.int16)


def test_live_renderer_wav2lip_moves_only_the_mouth(studio: Studio, voice: NDArray[np.int16]) -> None:
    idle, spoken = pictures(studio.chunks(np.zeros(0, np.int16), 6)), pictures(studio.chunks(voice, 6))
    difference = np.abs(spoken - idle).mean(0)
    side = difference.shape[0]
    assert difference[side // 2 :, side // 4 : -side // 4].max() > 15
    assert difference[: side // 4].mean() < 1.5, "the forehead, but for the encoder"


def test_live_renderer_parallel_sessions_equal_single_ones(studio: Studio, voice: NDArray[np.int16]) -> None:
    alone = [chunk.pictures for chunk in studio.chunks(voice, 3)]

    async def session(name: str) -> list[LiveChunk]:
        stream, made = SpeechStream(), []
        stream.push(voice)
        for first in range(0, 3 * NUM, NUM):
            made.append(await studio.renderer.render(studio.request(first, name, stream)))
        return made

    async def all_at_once() -> list[list[LiveChunk]]:
        return await asyncio.gather(*(session(name) for name in "abcd"))

    for made in asyncio.run(all_at_once()):
        shown = np.abs(pictures(made) - pictures([LiveChunk(each, None) for each in alone]))
        assert shown.mean() < 2, "but for the invisible watermark of each"


@pytest.mark.needs_cuda
def test_live_renderer_gpu_pictures_equal_the_cpus(studio: Studio, voice: NDArray[np.int16], tmp_path: Path) -> None:
    on_gpu = _studio(tmp_path, ComputeResources("cuda"))
    difference = np.abs(pictures(on_gpu.chunks(voice, 3)) - pictures(studio.chunks(voice, 3)))
    assert difference.mean() < 0.5
