from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks.material import FramesInMemory
from lipwright.config import PipelineConfig, RenderConfig
from lipwright.jobs.messages import SegmentRequest, SegmentWatermark, SourceVideo
from lipwright.media.cancel_token import CancelToken
from lipwright.media.labels.watermark import FrameMark
from lipwright.media.yuv_frame import Patch, YuvFrame
from lipwright.rendering.frame_pipeline import FramePipeline, PlannedFace
from lipwright.rendering.segment_renderer import SegmentRenderer
from lipwright.storage.local.folder import LocalFiles
from models.engines.catalog import EngineCatalog
from models.engines.patches import FacePatches
from models.mouth.motion import RunningStats
from models.track.occluders import Occluders
from tests.unit.media.clips import info_of
from tests.waiting import until

T = TypeVar("T")
SIDE = 32


@dataclass(frozen=True)
class _Plan:
    source_index: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.source_index)

    def slice(self, start: int, stop: int) -> _Plan:
        return _Plan(self.source_index[start:stop].copy())


@dataclass(frozen=True)
class _Chunk:
    numbers: list[int]

    @property
    def num_frames(self) -> int:
        return len(self.numbers)


CHROMA = np.full((SIDE // 2, SIDE // 2), 128, np.uint8)
FRAMES = [YuvFrame(np.full((SIDE, SIDE), index, np.uint8), CHROMA, CHROMA) for index in range(6)]


class _Written:
    def __init__(self) -> None:
        self.pictures: list[tuple[int, int]] = []  # luma of the frame, and of its patch

    def write(self, planes: YuvFrame, patches: Sequence[Patch] = ()) -> None:
        (patch,) = patches
        self.pictures.append((int(planes.y[0, 0]), int(patch.planes.y[0, 0])))


class _Painters:
    """Faces of luma 100 + the frame's; how long a chunk takes is up to the test."""

    def __init__(self) -> None:
        self.num_open, self.most_open = 0, 0
        self.waits: list[asyncio.Event] = []
        self.cancelled = 0
        self.fails_at = -1

    def __call__(self, engine: str, chunk: Any) -> asyncio.Future[FacePatches]:
        assert engine == "toy"
        return asyncio.ensure_future(self._generate(chunk, len(self.waits)))

    async def _generate(self, chunk: _Chunk, number: int) -> FacePatches:
        ready = asyncio.Event()
        self.waits.append(ready)
        self.num_open += 1
        self.most_open = max(self.most_open, self.num_open)
        try:
            if number == self.fails_at:
                raise RuntimeError("this chunk")
            await ready.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self.num_open -= 1
        return _patches(chunk.numbers)


def _patches(numbers: list[int]) -> FacePatches:
    luma = np.stack([np.full((4, 4), 100 + number, np.uint8) for number in numbers])
    chroma = np.full((len(numbers), 2, 2, 2), 128, np.uint8)
    rows, origins = np.arange(len(numbers), dtype=np.int32), np.zeros((len(numbers), 2), np.int32)
    return FacePatches(rows, origins, luma, chroma, silent_motion=RunningStats.of(np.ones(len(numbers))))


async def _run(work: Callable[[CancelToken], T], num_frames: int) -> T:
    return await asyncio.to_thread(work, CancelToken())


PLAN = _Plan(np.array([3, 4, 5, 4, 3, 2, 1], np.int32))


async def _render(face_generators: _Painters, written: _Written, window: int) -> RunningStats:
    def crop(plan: Any, pictures: list[YuvFrame]) -> Any:
        assert [int(picture.y[0, 0]) for picture in pictures] == plan.source_index.tolist()
        return _Chunk(plan.source_index.tolist())

    pipeline, face = FramePipeline(face_generators, _run, window), PlannedFace("toy", crop, PLAN, None)
    return await pipeline.render(FramesInMemory(FRAMES), PLAN.source_index, [face], written, chunk_frames=2)


async def test_render_writes_frames_in_order() -> None:
    face_generators, written = _Painters(), _Written()
    rendering = asyncio.create_task(_render(face_generators, written, window=2))
    await until(lambda: len(face_generators.waits) == 2)
    face_generators.waits[1].set()  # the second chunk is ready first
    await asyncio.sleep(0.05)
    assert not written.pictures
    face_generators.waits[0].set()
    for number in (2, 3):
        await until(lambda number=number: len(face_generators.waits) > number)  # type: ignore[misc]
        face_generators.waits[number].set()
    assert (await rendering).num == len(PLAN)
    assert written.pictures == [(number, 100 + number) for number in PLAN.source_index.tolist()]
    assert face_generators.most_open == 2, "one chunk is generated while the next is decoded, within the window"


async def test_render_failed_chunk_cancels_the_others() -> None:
    face_generators = _Painters()
    face_generators.fails_at = 1
    rendering = asyncio.create_task(_render(face_generators, _Written(), window=3))
    await until(lambda: len(face_generators.waits) >= 2)
    face_generators.waits[0].set()
    with pytest.raises(RuntimeError, match="this chunk"):
        await rendering
    assert face_generators.num_open == 0, "nothing is generated any more"


async def test_render_cancelled_cancels_all_chunks() -> None:
    face_generators = _Painters()
    rendering = asyncio.create_task(_render(face_generators, _Written(), window=2))
    await until(lambda: len(face_generators.waits) == 2)
    rendering.cancel()
    with pytest.raises(asyncio.CancelledError):
        await rendering
    assert (face_generators.num_open, face_generators.cancelled) == (0, 2)


def test_shown_patch_occluder_stays_in_front_of_the_face() -> None:
    cells = np.zeros((1, 96, 96), np.uint8)
    cells[:, :, 48:] = 255
    place = np.array([[[1 / 24, 0, 0], [0, 1 / 24, 0]]])  # the grid spans the 4 x 4 pixels of a patch
    faces = np.full((1, 4, 4), 50, np.uint8), np.full((1, 2, 2, 2), 128, np.uint8)
    occluders = Occluders(
        np.array([4], np.int32), place, cells, np.zeros(1, np.int32), *faces, place, np.full_like(cells, 255)
    )
    seen = list[int]()

    def crop(plan: Any, pictures: list[YuvFrame]) -> Any:
        seen.extend(int(picture.y[0, 0]) for picture in pictures)
        return _Chunk(plan.source_index.tolist())

    frames, face = FRAMES[3:5], PlannedFace("toy", crop, _Plan(np.array([3, 4], np.int32)), None, occluders)
    face.chunk(frames)
    clear, behind = (face.shown_patch(frame, number, _patches([3, 4])) for number, frame in enumerate(frames))
    assert seen == [3, 50]
    assert clear is not None and behind is not None
    assert clear.planes.y[0].tolist() == [103] * 4
    assert behind.planes.y[0, 0] == 104 and behind.planes.y[0, 3] == 4


def test_segment_renderer_draws_texts_in_a_thread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    threads = []

    def marks(*_: Any, **__: Any) -> list[tuple[FrameMark, ...]]:
        threads.append(threading.current_thread())
        return [()] * len(FRAMES)

    monkeypatch.setattr("lipwright.rendering.segment_renderer.segment_marks", marks)
    config, source = PipelineConfig(data_dir=tmp_path), SourceVideo("v", info_of(SIDE, SIDE, num_frames=len(FRAMES)))
    (tmp_path / source.key).touch()
    opened, files = FramesInMemory(FRAMES), LocalFiles(tmp_path)
    renderer = SegmentRenderer(config, EngineCatalog(config), _Painters(), _run, lambda *_: opened, files)
    asyncio.run(renderer.render(SegmentRequest(source, np.arange(len(FRAMES)), ()), SegmentWatermark()))
    assert threads and threads[0] is not threading.main_thread()


@pytest.mark.parametrize(
    ("cache_bytes", "readers"),
    [
        pytest.param(2**20, [0, 0, 0, 0, 0], id="holds all frames: one reader for any position"),
        pytest.param(2**15, [0, 0, 1, 0, 2], id="longer: the nearest reader before, if it is near"),
    ],
)
def test_segment_renderer_reuses_readers(cache_bytes: int, readers: list[int], tmp_path: Path) -> None:
    config = PipelineConfig(data_dir=tmp_path, render=RenderConfig(reader_cache_bytes=cache_bytes))
    source = SourceVideo("v", info_of(SIDE, SIDE, num_frames=400))
    (tmp_path / source.key).touch()
    opened = list[_RecordingReader]()

    def open_source(*_: Any) -> _RecordingReader:
        opened.append(_RecordingReader())
        return opened[-1]

    renderer = SegmentRenderer(config, EngineCatalog(config), _Painters(), _run, open_source, LocalFiles(tmp_path))
    used = []
    for start in (0, 100, 0, 200, 390):
        request = SegmentRequest(source, np.arange(start, start + 10), ())
        asyncio.run(renderer.render(request, SegmentWatermark()))
        used.append(next(number for number, reader in enumerate(opened) if reader.last_read == start + 9))
    assert used == readers


class _RecordingReader(FramesInMemory):
    """Notes which frame was read last."""

    def __init__(self) -> None:
        super().__init__(FRAMES)
        self.last_read = -1

    def read(self, indices: Iterable[int]) -> Iterator[YuvFrame]:
        for self.last_read in indices:
            yield FRAMES[0]
