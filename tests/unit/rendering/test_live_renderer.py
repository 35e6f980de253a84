"""Chunks of a live session on a drawn avatar, by the real engine and without Ray."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import av
import numpy as np
import pytest
from av.video.codeccontext import VideoCodecContext
from numpy.typing import NDArray

from benchmarks.media_files import read_wav
from config import LabelsConfig, LiveConfig, PipelineConfig
from errors import ConfigError, MediaError, StoredFileError
from jobs.messages import AvatarRef, SourceVideo
from media.cancel_token import CancelToken
from media.frame_source import FrameSource
from media.probe import VideoInfo
from media.reader import FrameReader
from models.avatar.avatar import Avatar
from models.avatar.folder import INFO_FILE, mark_analysed
from models.engines.catalog import EngineCatalog
from models.engines.protocol import ComputeResources, Engine, EngineSettings
from models.engines.warp.engine import WarpEngine
from models.speech.stream import SpeechStream
from rendering.live_chunk import LiveChunk, LiveChunkRequest
from rendering.live_renderer import LiveRenderer
from storage.local.folder import LocalFiles
from storage.state import open_files
from tests.s3_server import S3Server
from tests.unit.models.still import make_still
from tests.unit.models.synthetic_avatar import NUM_FRAMES, FilmedAvatar, make_avatar

T = TypeVar("T")
FPS, NUM, RATE = 25, 3, 16000


async def _run(work: Callable[[CancelToken], T], num_frames: int) -> T:
    return await asyncio.to_thread(work, CancelToken())


class Portrait:
    """A still picture in place of a film."""

    def __init__(self, picture: Path, folder: Path) -> None:
        self._still = make_still(picture)
        self.info = self._still.info
        self.path = Path(shutil.copy(picture, folder))

    def reader(self) -> FrameReader:
        return self._still.reader()

    def avatar(self, folder: Path) -> Avatar:
        with self.reader() as reader:
            return Avatar.build(folder, self.info, self._still.raw, reader)


class Studio:
    """An avatar, and what renders it; what is opened is counted."""

    def __init__(
        self,
        filmed: FilmedAvatar | Portrait,
        folder: Path,
        engine: Engine | None = None,
        resources: ComputeResources | None = None,
    ) -> None:
        self.config = PipelineConfig(data_dir=folder)
        self.engine = engine or EngineCatalog(self.config).engine("warp")
        known = filmed.avatar(folder / "avatar")
        kept = known.folder_of(self.engine)
        kept.mkdir(parents=True, exist_ok=True)
        with filmed.reader() as reader:
            self.engine.analyse(known, known.frames(reader), None, lambda: False)
        mark_analysed(folder / "avatar", self.engine)
        self.ref = AvatarRef("avatar", SourceVideo(filmed.path.relative_to(folder).as_posix(), filmed.info))
        self.opened: list[FrameReader] = []
        self.path, self.files = filmed.path, LocalFiles(folder)
        self.renderer = LiveRenderer(
            self.config, self.engine, resources or ComputeResources(), _run, self._open, self.files
        )

    def _open(self, path: Path, info: VideoInfo, avatar: Avatar | None) -> FrameSource:
        self.opened.append(FrameReader(path, info, 2**24))
        return self.opened[-1] if avatar is None else avatar.frames(self.opened[-1])

    def chunks(self, speech: NDArray[np.int16], num_chunks: int, expressiveness: float = 1.0) -> list[LiveChunk]:
        """A session that says `speech` from its first frame on."""
        stream, state, made = SpeechStream(), None, []
        stream.push(speech)
        for number in range(num_chunks):
            first = number * NUM
            window = stream.window(first / FPS, (first + NUM) / FPS)
            request = LiveChunkRequest("s", self.ref, window, first, NUM, state, expressiveness)
            made.append(asyncio.run(self.renderer.render(request)))
            state = made[-1].state
        return made


def pictures(chunks: list[LiveChunk], pixel_format: str = "gray") -> NDArray[np.float64]:
    """(T, H, W) luma of all frames, or (T, H, W, 3) of the format `rgb24`; each chunk is decoded on its own."""
    return np.concatenate([stream_pictures([chunk], pixel_format) for chunk in chunks])


def stream_pictures(chunks: list[LiveChunk], pixel_format: str = "gray") -> NDArray[np.float64]:
    """The same, decoded one after the other."""
    frames, decoder = [], VideoCodecContext.create("h264", "r")
    for chunk in chunks:
        for frame in chunk.pictures.byte_streams():
            frames += decoder.decode(av.Packet(frame))
    frames += decoder.decode(None)
    return np.stack([frame.to_ndarray(format=pixel_format).astype(float) for frame in frames])


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Studio:
    folder = tmp_path_factory.mktemp("live")
    return Studio(make_avatar(folder, 0.14), folder)


@pytest.fixture(scope="module")
def voice(sample_speech: Path) -> NDArray[np.int16]:
    return read_wav(sample_speech)[0][RATE // 2 :]


@pytest.fixture(scope="module")
def silent(studio: Studio) -> list[LiveChunk]:
    return studio.chunks(np.zeros(0, np.int16), 12)


def test_render_speech_moves_only_the_mouth(studio: Studio, silent: list[LiveChunk], voice: NDArray[np.int16]) -> None:
    idle, spoken = pictures(silent), pictures(studio.chunks(voice, 12))
    assert len(idle) == len(spoken) == 12 * NUM
    difference = np.abs(spoken - idle).mean(0)
    side = difference.shape[0]
    assert difference[side // 2 :, side // 4 : -side // 4].max() > 15
    assert difference[: side // 4].mean() < 1.5, "the forehead, but for the encoder"


def test_render_expressiveness_scales_mouth_movement(
    studio: Studio, silent: list[LiveChunk], voice: NDArray[np.int16]
) -> None:
    idle = pictures(silent)
    still, natural, lively = (
        float(np.abs(pictures(studio.chunks(voice, 12, expressiveness)) - idle).mean())
        for expressiveness in (0.0, 1.0, 1.8)
    )
    assert still < 0.5 * natural
    assert natural < 0.9 * lively


def test_render_is_deterministic(studio: Studio, silent: list[LiveChunk]) -> None:
    again = studio.chunks(np.zeros(0, np.int16), 3)
    assert [chunk.pictures for chunk in again] == [chunk.pictures for chunk in silent[:3]]


def test_render_avatar_in_a_bucket_gives_the_same_chunks(
    studio: Studio, silent: list[LiveChunk], s3: S3Server, tmp_path: Path
) -> None:
    files = open_files(PipelineConfig(data_dir=tmp_path, files=s3.new_bucket()))
    with files.written(studio.ref.source.key) as part:
        shutil.copy(studio.path, part)
    with files.written_folder(studio.ref.folder, "", INFO_FILE) as folder:
        shutil.copytree(studio.path.parent / "avatar", folder, dirs_exist_ok=True)
    renderer = LiveRenderer(studio.config, studio.engine, ComputeResources(), _run, studio._open, files)
    window = SpeechStream().window(0.0, NUM / FPS)
    for _ in range(2):
        chunk = asyncio.run(renderer.render(LiveChunkRequest("s", studio.ref, window, 0, NUM, None)))
        assert chunk.pictures == silent[0].pictures
    opened = [path for path in tmp_path.rglob("*.npz") if path.is_file()]
    assert opened, "it was fetched to this machine"


def test_render_quality_is_even_within_a_chunk(studio: Studio, silent: list[LiveChunk]) -> None:
    with FrameReader(studio.path, studio.ref.source.info, 2**24) as reader:
        source = np.stack([frame.y.astype(float) for frame in reader.read(range(NUM_FRAMES))])[: 12 * NUM]
    top = slice(0, source.shape[1] // 4)
    error = np.square(pictures(silent)[:, top] - source[:, top]).mean((1, 2))
    decibels = 10 * np.log10(255**2 / error)
    in_group = [decibels[place::NUM].mean() for place in range(NUM)]
    assert min(in_group) > 33
    assert max(in_group) - min(in_group) < 3, "it would be seen to breathe with its groups"


def test_render_pingpong_opens_the_source_once(studio: Studio) -> None:
    before = len(studio.opened)
    chunks = studio.chunks(np.zeros(0, np.int16), 2 * NUM_FRAMES // NUM)
    assert len(chunks) == 2 * NUM_FRAMES // NUM
    assert len(studio.opened) - before <= 1, "each chunk reads on where the last one ended"


def test_render_still_nods_with_speech(sample_portrait: Path, voice: NDArray[np.int16], tmp_path: Path) -> None:
    studio = Studio(Portrait(sample_portrait, tmp_path), tmp_path)
    idle = pictures(studio.chunks(np.zeros(0, np.int16), 10))
    spoken = pictures(studio.chunks(voice[: RATE // 2], 10))
    eyes = np.s_[:, 180:230, 190:330]  # which no mouth moves
    moved = np.abs(spoken[eyes] - idle[eyes]).mean((1, 2))
    assert moved[0] < 1, "it starts with the still"
    assert moved[5:18].max() > 2
    assert len(studio.opened) == 1, "once a session"


def test_render_keyframe_only_without_the_chunk_before(studio: Studio) -> None:
    stream = SpeechStream()

    def render(number: int, before: LiveChunk | None) -> LiveChunk:
        first = number * NUM
        window = stream.window(first / FPS, (first + NUM) / FPS)
        state, reference = (None, None) if before is None else (before.state, before.reference)
        request = LiveChunkRequest("continued", studio.ref, window, first, NUM, state, reference=reference)
        return asyncio.run(studio.renderer.render(request))

    first = render(0, None)
    second = render(1, first)
    third = render(2, second)
    assert [chunk.pictures.is_key for chunk in (first, second, third)] == [True, False, False]
    assert sum(map(len, second.pictures.frames)) < 0.7 * sum(map(len, first.pictures.frames))
    alone = pictures([render(0, None), render(1, None), render(2, None)])
    together = stream_pictures([first, second, third])
    assert np.abs(together - alone).mean() < 1.5, "but for the encoder"

    assert render(2, second).pictures.is_key, "the encoder has passed the pictures that the client has"
    studio.renderer.forget("continued")
    assert render(3, third).pictures.is_key


def test_render_missing_source_is_named(studio: Studio) -> None:
    gone = AvatarRef(studio.ref.folder, SourceVideo("other.mp4", studio.ref.source.info))
    window = SpeechStream().window(0.0, 0.12)
    with pytest.raises(StoredFileError, match="other.mp4"):
        asyncio.run(studio.renderer.render(LiveChunkRequest("s", gone, window, 0, NUM, None)))


def test_render_failed_encoder_closes_the_readers(studio: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(request: LiveChunkRequest, config: PipelineConfig) -> None:
        raise MediaError("no encoder")

    monkeypatch.setattr("rendering.live_renderer.SessionEncoder", fail)
    closed: list[FrameReader] = []
    monkeypatch.setattr(FrameReader, "close", lambda reader: closed.append(reader))
    request = LiveChunkRequest("failed", studio.ref, SpeechStream().window(0.0, 0.12), 0, NUM, None)
    with pytest.raises(MediaError, match="no encoder"):
        asyncio.run(studio.renderer.render(request))
    assert studio.opened[-1] in closed


def test_live_renderer_engine_without_live_is_refused(studio: Studio) -> None:
    class Other(WarpEngine):
        live_audio_encoder = None  # type: ignore[assignment]

    config = PipelineConfig(live=LiveConfig(engine="other"))
    other = Other(EngineSettings(studio.engine, {}))  # type: ignore[arg-type]  # it asks for no weights
    with pytest.raises(ConfigError, match="other"):
        LiveRenderer(config, other, ComputeResources(), _run, studio._open, studio.files)


@pytest.mark.parametrize("is_visible", [True, False])
def test_render_marks_every_frame(studio: Studio, silent: list[LiveChunk], is_visible: bool) -> None:
    config = PipelineConfig(labels=LabelsConfig(visible=True) if is_visible else LabelsConfig(invisible=False))
    renderer = LiveRenderer(config, studio.engine, ComputeResources(), _run, studio._open, studio.files)
    window = SpeechStream().window(0.0, 0.12)
    made = asyncio.run(renderer.render(LiveChunkRequest("s", studio.ref, window, 0, NUM, None)))
    difference = np.abs(pictures([made]) - pictures(silent[:1]))
    if is_visible:
        side = difference.shape[1]
        assert difference[:, -side // 4 :, side // 2 :].max((1, 2)).min() > 40
        assert difference[:, : side // 2].mean() < 2
    else:
        assert 0.2 < difference.mean() < 2, "the invisible watermark is missing"


def test_render_two_sessions_keep_their_own_readers(studio: Studio) -> None:
    before, stream = len(studio.opened), SpeechStream()
    for first in (0, NUM, 2 * NUM):
        window = stream.window(first / FPS, (first + NUM) / FPS)
        for session in ("a", "b"):
            asyncio.run(studio.renderer.render(LiveChunkRequest(session, studio.ref, window, first, NUM, None)))
    assert len(studio.opened) - before == 2


def test_forget_closes_the_readers_of_its_session_only(studio: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    closed: list[FrameReader] = []
    monkeypatch.setattr(FrameReader, "close", lambda reader: closed.append(reader))
    window = SpeechStream().window(0.0, NUM / FPS)
    for session in ("goes", "stays"):
        asyncio.run(studio.renderer.render(LiveChunkRequest(session, studio.ref, window, 0, NUM, None)))
    studio.renderer.forget("goes")
    assert closed == [studio.opened[-2]]


def test_forget_during_a_chunk_closes_its_readers(studio: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    closed: list[FrameReader] = []
    monkeypatch.setattr(FrameReader, "close", lambda reader: closed.append(reader))
    plan = studio.renderer._plan

    def forget_and_plan(*arguments: Any) -> Any:
        studio.renderer.forget("left")
        return plan(*arguments)

    monkeypatch.setattr(studio.renderer, "_plan", forget_and_plan)
    window = SpeechStream().window(0.0, NUM / FPS)
    asyncio.run(studio.renderer.render(LiveChunkRequest("left", studio.ref, window, 0, NUM, None)))
    assert closed == [studio.opened[-1]]
