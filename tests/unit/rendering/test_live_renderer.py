import asyncio
import shutil
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal, TypeVar

import av
import cv2
import numpy as np
import pytest
from av.video.codeccontext import VideoCodecContext
from numpy.typing import NDArray

from benchmarks.material import FramesInMemory
from benchmarks.media_files import read_wav
from lipwright.config import LabelsConfig, LiveConfig, PipelineConfig
from lipwright.errors import ConfigError, MediaError, StoredFileError
from lipwright.jobs.messages import AvatarRef, Background, MatteRef, SourceVideo
from lipwright.media.cancel_token import CancelToken
from lipwright.media.frame_source import FrameSource
from lipwright.media.kept_squares import SquareReader
from lipwright.media.matte import MatteWriter, join_mattes, matte_info
from lipwright.media.output.backgrounds import fit_background, fitted_info
from lipwright.media.probe import VideoInfo
from lipwright.media.reader import FrameReader
from lipwright.media.yuv_frame import YuvFrame
from lipwright.rendering.live_chunk import LiveChunk, LiveChunkRequest
from lipwright.rendering.live_renderer import LiveRenderer
from lipwright.storage.files import StoredFiles
from lipwright.storage.local.folder import LocalFiles
from lipwright.storage.state import open_files
from models.avatar.avatar import Avatar
from models.avatar.folder import INFO_FILE, mark_analysed
from models.engines.catalog import EngineCatalog
from models.engines.protocol import ComputeResources, Engine, EngineSettings
from models.engines.warp.engine import WarpEngine
from models.engines.wav2lip.engine import Wav2LipEngine
from models.matting.report import MatteReport
from models.speech.stream import SpeechStream
from tests.s3_server import S3Server
from tests.unit.media.clips import info_of
from tests.unit.models.engines.brought import Brought
from tests.unit.models.engines.wav2lip.networks import save_onnx
from tests.unit.models.films import read_film
from tests.unit.models.still import make_still
from tests.unit.models.synthetic_avatar import NUM_FRAMES, FilmedAvatar, make_avatar

T = TypeVar("T")
FPS, NUM, RATE = 25, 3, 16000
Samples = NDArray[np.int16]


async def _run(work: Callable[[CancelToken], T], num_frames: int) -> T:
    return await asyncio.to_thread(work, CancelToken())


def portrait(picture: Path, folder: Path) -> FilmedAvatar:
    still = make_still(picture)
    return FilmedAvatar(Path(shutil.copy(picture, folder)), still.info, still.raw)


class Studio:
    """An avatar, and what renders it; what is opened is counted."""

    def __init__(self, filmed: FilmedAvatar, folder: Path, engine: Engine | None = None) -> None:
        self.config = PipelineConfig(data_dir=folder)
        self.engine = engine or EngineCatalog(self.config).engine("warp")
        known = filmed.avatar(folder / "avatar")
        known.folder_of(self.engine).mkdir(parents=True, exist_ok=True)
        with filmed.reader() as reader:
            self.engine.analyse(known, SquareReader(known.frames(reader)), None, lambda: False)
        mark_analysed(folder / "avatar", self.engine)
        self.ref = AvatarRef("avatar", SourceVideo(filmed.path.relative_to(folder).as_posix(), filmed.info))
        self.opened: list[FrameReader] = []
        self.path, self.files = filmed.path, LocalFiles(folder)
        self.renderer = self.renderer_of(self.config)

    def _open(self, path: Path, info: VideoInfo, avatar: Avatar | None) -> FrameSource:
        self.opened.append(FrameReader(path, info, 2**24))
        return self.opened[-1] if avatar is None else avatar.frames(self.opened[-1])

    def request(self, first: int, session: str = "s", stream: SpeechStream | None = None) -> LiveChunkRequest:
        """A request for `NUM` frames, of a session that has said nothing unless its stream is given."""
        window = (stream or SpeechStream()).window(first / FPS, (first + NUM) / FPS)
        return LiveChunkRequest(session, self.ref, window, first, NUM, None)

    def render(self, request: LiveChunkRequest, renderer: LiveRenderer | None = None) -> LiveChunk:
        return asyncio.run((renderer or self.renderer).render(request))

    def renderer_of(
        self, config: PipelineConfig, files: StoredFiles | None = None, device: Literal["cpu", "cuda"] = "cpu"
    ) -> LiveRenderer:
        return LiveRenderer(config, self.engine, ComputeResources(device), _run, self._open, files or self.files)

    def chunks(self, speech: Samples, num_chunks: int, expressiveness: float = 1.0) -> list[LiveChunk]:
        """A session that says `speech` from its first frame on."""
        stream, made = SpeechStream(), list[LiveChunk]()
        stream.push(speech)
        for number in range(num_chunks):
            state = made[-1].state if made else None
            request = replace(self.request(number * NUM, stream=stream), state=state, expressiveness=expressiveness)
            made.append(self.render(request))
        return made


def pictures(chunks: list[LiveChunk], pixel_format: str = "gray") -> NDArray[np.float64]:
    """(T, H, W) luma of all frames, or (T, H, W, 3) of the format `rgb24`; each chunk is decoded on its own."""
    frames = []
    for chunk in chunks:
        decoder = VideoCodecContext.create("h264", "r")
        for packet in (*map(av.Packet, chunk.pictures.byte_streams()), None):
            frames += decoder.decode(packet)
    return np.stack([frame.to_ndarray(format=pixel_format).astype(float) for frame in frames])


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Studio:
    folder = tmp_path_factory.mktemp("live")
    return Studio(make_avatar(folder, 0.14), folder)


@pytest.fixture(scope="module")
def wav2lip(tmp_path_factory: pytest.TempPathFactory) -> Studio:
    folder = tmp_path_factory.mktemp("wav2lip")
    save_onnx(folder / "generator", size=32)
    engine = Wav2LipEngine(EngineSettings(Brought({"generator": folder / "generator"}), {}))
    return Studio(make_avatar(folder, 0.14), folder, engine)


@pytest.fixture(scope="module")
def voice(sample_speech: Path) -> Samples:
    return read_wav(sample_speech)[0][RATE // 2 :]


@pytest.fixture(scope="module")
def silent(studio: Studio) -> list[LiveChunk]:
    return studio.chunks(np.zeros(0, np.int16), 6)


@pytest.mark.parametrize("engine", ["warp", "wav2lip"])
def test_render_speech_moves_only_the_mouth(studio: Studio, wav2lip: Studio, voice: Samples, engine: str) -> None:
    shown = studio if engine == "warp" else wav2lip
    silent, silent_again, spoken = (shown.chunks(speech, 6) for speech in (voice[:0], voice[:0], voice))
    assert [chunk.pictures for chunk in silent_again] == [chunk.pictures for chunk in silent]
    difference = np.abs(pictures(spoken) - pictures(silent)).mean(0)
    side = difference.shape[0]
    assert difference[side // 2 :, side // 4 : -side // 4].max() > 15
    assert difference[: side // 4].mean() < 1.5, "the forehead, but for the encoder"


def test_live_renderer_parallel_sessions_equal_single_ones(wav2lip: Studio, voice: Samples) -> None:
    alone = pictures(wav2lip.chunks(voice, 3))

    async def session(name: str) -> list[LiveChunk]:
        stream = SpeechStream()
        stream.push(voice)
        return [await wav2lip.renderer.render(wav2lip.request(each * NUM, name, stream)) for each in range(3)]

    async def all_at_once() -> list[list[LiveChunk]]:
        return await asyncio.gather(*(session(name) for name in "abcd"))

    for made in asyncio.run(all_at_once()):
        assert np.abs(pictures(made) - alone).mean() < 2, "but for the invisible watermark of each"


@pytest.mark.needs_cuda
def test_live_renderer_gpu_pictures_equal_the_cpus(wav2lip: Studio, voice: Samples) -> None:
    stream = SpeechStream()
    stream.push(voice)
    request, on_gpu = wav2lip.request(0, "gpu", stream), wav2lip.renderer_of(wav2lip.config, device="cuda")
    difference = pictures([wav2lip.render(request, on_gpu)]) - pictures([wav2lip.render(request)])
    assert np.abs(difference).mean() < 0.5


def test_render_expressiveness_scales_movement(studio: Studio, silent: list[LiveChunk], voice: Samples) -> None:
    spoken = (pictures(studio.chunks(voice, 6, expressiveness)) for expressiveness in (0.0, 1.0, 1.8))
    still, natural, lively = (float(np.abs(each - pictures(silent[:6])).mean()) for each in spoken)
    assert still < 0.5 * natural
    assert natural < 0.9 * lively


def test_render_known_closures_keep_the_mouth_closed(studio: Studio, silent: list[LiveChunk], voice: Samples) -> None:
    idle, stream = pictures(silent), SpeechStream()
    stream.push(voice)
    requests = [studio.request(number * NUM, stream=stream) for number in range(6)]
    closures = ((0.0, 1.0),)
    closed = [replace(each, window=replace(each.window, closures=closures)) for each in requests]
    spoken, quiet = (pictures([studio.render(each) for each in some]) for some in (requests, closed))
    assert np.abs(quiet - idle).mean() < 0.7 * np.abs(spoken - idle).mean()


def test_render_avatar_in_a_bucket_gives_the_same_chunks(
    studio: Studio, silent: list[LiveChunk], s3: S3Server, tmp_path: Path
) -> None:
    files = open_files(PipelineConfig(data_dir=tmp_path, files=s3.new_bucket()))
    with files.written(studio.ref.source.key) as part:
        shutil.copy(studio.path, part)
    with files.written_folder(studio.ref.folder, "", INFO_FILE) as folder:
        shutil.copytree(studio.path.parent / "avatar", folder, dirs_exist_ok=True)
    renderer = studio.renderer_of(studio.config, files)
    for _ in range(2):
        assert studio.render(studio.request(0), renderer).pictures == silent[0].pictures
    assert any(path.is_file() for path in tmp_path.rglob("*.npz")), "it was fetched to this machine"


def test_render_source_is_opened_once_and_evenly_encoded(studio: Studio) -> None:
    before = len(studio.opened)
    chunks = studio.chunks(np.zeros(0, np.int16), 2 * NUM_FRAMES // NUM)  # forward and backward
    assert len(studio.opened) - before <= 1, "each chunk reads on where the last one ended"
    source = np.stack([frame.y.astype(float) for frame in read_film(studio.path, range(12 * NUM)).frames])
    top = slice(0, source.shape[1] // 4)
    error = np.square(pictures(chunks[:12])[:, top] - source[:, top]).mean((1, 2))
    decibels = 10 * np.log10(255**2 / error)
    in_group = [decibels[place::NUM].mean() for place in range(NUM)]
    assert min(in_group) > 33
    assert max(in_group) - min(in_group) < 3, "it would be seen to breathe with its groups"


def test_render_still_nods_with_speech(sample_portrait: Path, voice: Samples, tmp_path: Path) -> None:
    studio = Studio(portrait(sample_portrait, tmp_path), tmp_path)
    idle, spoken = (pictures(studio.chunks(speech, 6)) for speech in (voice[:0], voice[: RATE // 2]))
    eyes = np.s_[:, 180:230, 190:330]  # which no mouth moves
    moved = np.abs(spoken[eyes] - idle[eyes]).mean((1, 2))
    assert moved[0] < 1, "it starts with the still"
    assert moved[5:18].max() > 2
    assert len(studio.opened) == 1, "once a session"


def test_render_keyframe_only_without_the_chunk_before(studio: Studio) -> None:
    def render(number: int, before: LiveChunk | None) -> LiveChunk:
        request = studio.request(number * NUM, "continued")
        if before is not None:
            request = replace(request, state=before.state, reference=before.reference)
        return studio.render(request)

    second = render(1, first := render(0, None))
    third = render(2, second)
    assert [chunk.pictures.is_key for chunk in (first, second, third)] == [True, False, False]
    assert sum(map(len, second.pictures.frames)) < 0.7 * sum(map(len, first.pictures.frames))
    assert render(2, second).pictures.is_key, "the encoder has passed the pictures that the client has"
    studio.renderer.forget("continued")
    assert render(3, third).pictures.is_key


@pytest.fixture
def closed(monkeypatch: pytest.MonkeyPatch) -> list[FrameReader]:
    closed: list[FrameReader] = []
    monkeypatch.setattr(FrameReader, "close", lambda reader: closed.append(reader))
    return closed


def _after(monkeypatch: pytest.MonkeyPatch, owner: object, method: str, effect: Callable[[], None]) -> None:
    """Has `effect` happen at the end of each call of a method."""
    original = getattr(owner, method)

    def wrapped(*arguments: Any) -> Any:
        result = original(*arguments)
        effect()
        return result

    monkeypatch.setattr(owner, method, wrapped)


def test_render_cancelled_chunk_leaves_no_closed_reader(studio: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    token = CancelToken()
    _after(monkeypatch, studio.renderer._face_generator, "generate", token.cancel)
    studio.renderer._render(studio.request(0, "late"), token)
    num_opened = len(studio.opened)
    studio.render(studio.request(0, "late"))
    assert len(studio.opened) == num_opened + 1


def test_forget_during_a_chunk_closes_its_readers(
    studio: Studio, closed: list[FrameReader], monkeypatch: pytest.MonkeyPatch
) -> None:
    _after(monkeypatch, studio.renderer, "_plan", lambda: studio.renderer.forget("left"))
    studio.render(studio.request(0, "left"))
    assert closed == [studio.opened[-1]]


def test_render_missing_source_or_encoder_raises(
    studio: Studio, closed: list[FrameReader], monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = AvatarRef(studio.ref.folder, SourceVideo("other.mp4", studio.ref.source.info))
    with pytest.raises(StoredFileError, match="other.mp4"):
        studio.render(replace(studio.request(0), avatar=gone))

    def fail(request: LiveChunkRequest, config: PipelineConfig) -> None:
        raise MediaError("no encoder")

    monkeypatch.setattr("lipwright.rendering.live_renderer.SessionEncoder", fail)
    with pytest.raises(MediaError, match="no encoder"):
        studio.render(studio.request(0, "failed"))
    assert studio.opened[-1] in closed


def test_live_renderer_engine_without_live_is_refused(studio: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(WarpEngine, "live_audio_encoder", None)
    with pytest.raises(ConfigError, match="other"):
        studio.renderer_of(PipelineConfig(live=LiveConfig(engine="other")))


@pytest.mark.parametrize("is_visible", [True, False])
def test_render_marks_every_frame(studio: Studio, silent: list[LiveChunk], is_visible: bool) -> None:
    config = PipelineConfig(labels=LabelsConfig(visible=True) if is_visible else LabelsConfig(invisible=False))
    made = studio.render(studio.request(0), studio.renderer_of(config))
    difference = np.abs(pictures([made]) - pictures(silent[:1]))
    if is_visible:
        side = difference.shape[1]
        assert difference[:, -side // 4 :, side // 2 :].max((1, 2)).min() > 40
        assert difference[:, : side // 2].mean() < 2
    else:
        assert 0.2 < difference.mean() < 2, "the invisible watermark is missing"


def test_render_two_sessions_keep_their_own_readers(studio: Studio, closed: list[FrameReader]) -> None:
    before = len(studio.opened)
    for first in (0, NUM, 2 * NUM):
        for session in ("goes", "stays"):
            studio.render(studio.request(first, session))
    assert len(studio.opened) - before == 2
    studio.renderer.forget("goes")
    assert closed == [studio.opened[-2]]


class Live(Studio):
    """The portrait, a matte, and a session that idles."""

    def __init__(self, picture: Path, folder: Path) -> None:
        super().__init__(portrait(picture, folder), folder)
        info, writer = make_still(picture).info, MatteWriter(make_still(picture).info)
        alpha = np.zeros((info.height, info.width), np.uint8)
        cv2.ellipse(alpha, (info.width // 2, info.height), (info.width // 3, info.height - 40), 0, 0, 360, 255, -1)
        writer.write(alpha)
        join_mattes([writer.finish()], folder / "matte.mp4", info.fps, 1)
        report = MatteReport(mode="person", screen=None, sha256="", uncertain_share=0)
        self.matte = MatteRef("matte.mp4", matte_info(info), report)
        # Idle motion moves the outline by less than 12 pixels.
        self.person, self.behind = (cv2.erode(each, np.ones((25, 25))) > 0 for each in (alpha, 255 - alpha))

    def chunk(self, colour: str | None) -> LiveChunk:
        return self._rendered(None if colour is None else Background(self.matte, colour), "s", 0)

    def before_video(self, first_frame: int) -> LiveChunk:
        """In front of five grey pictures, each lighter than the one before it, as they are stored for sessions."""
        shown = self.ref.source.info
        half = np.full((32, 32), 128, np.uint8)
        frames = FramesInMemory([YuvFrame(np.full((64, 64), 40 + 40 * n, np.uint8), half, half) for n in range(5)])
        own = info_of(64, 64, num_frames=5, fps=Fraction(FPS), colour=shown.colour)
        (self.config.data_dir / "behind.mp4").write_bytes(fit_background(frames, own, shown, "loop"))
        file = SourceVideo("behind.mp4", fitted_info(own, shown, "loop"))
        return self._rendered(Background(self.matte, None, file), "video", first_frame)

    def _rendered(self, background: Background | None, session_id: str, first: int) -> LiveChunk:
        return self.render(replace(self.request(first, session_id), background=background))


@pytest.fixture(scope="module")
def live(sample_portrait: Path, tmp_path_factory: pytest.TempPathFactory) -> Live:
    return Live(sample_portrait, tmp_path_factory.mktemp("background"))


def test_render_background_replaces_only_the_background(live: Live) -> None:
    made = [live.chunk(colour) for colour in (None, "#00b140", "blur")]
    assert [live.chunk(colour).pictures for colour in ("#00b140", "blur")] == [each.pictures for each in made[1:]]
    (plain, green, blurred), behind = (pictures([chunk], "rgb24") for chunk in made), live.behind
    for shown in (green, blurred):
        assert np.abs(shown - plain)[:, live.person].mean() < 2, "but for the encoder"
    assert np.abs(green[:, behind] - (0, 0xB1, 0x40)).mean() < 4, "but for the invisible watermark"
    assert np.abs(plain[:, behind] - (0, 0xB1, 0x40)).mean() > 30
    assert abs(blurred[:, behind].mean() - plain[:, behind].mean()) < 5
    sharp, soft = (np.abs(cv2.Laplacian(each[0], cv2.CV_64F)[behind]).mean() for each in (plain, blurred))
    assert soft < sharp


def test_render_background_video_continues_over_chunks(live: Live) -> None:
    shown = pictures([live.before_video(first) for first in (0, NUM)])
    levels = [shown[number][live.behind].mean() for number in range(2 * NUM)]
    expected = [40 + 40 * (number % 5) for number in range(2 * NUM)]
    assert np.abs(np.subtract(levels, expected)).max() < 3, "but for the invisible watermark"
    assert np.abs(shown[0] - pictures([live.chunk(None)])[0])[live.person].mean() < 2
    again = pictures([live.before_video(NUM)])
    assert np.abs(again - shown[NUM:]).mean() < 2, "whatever was read before, but for the encoder"
