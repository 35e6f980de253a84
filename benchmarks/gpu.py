"""What a GPU brings, and whether its results equal those of the CPU: `python -m benchmarks.gpu`.

Prints tables in which every part that lacks a package, a file or hardware is named and skipped. Networks have random
weights of the published architectures. `--device cpu` compares the CPU with itself, to try the command without a GPU.
"""

from __future__ import annotations

import dataclasses
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, cast

import av
import numpy as np
import typer
from av.codec.hwaccel import HWAccel

from benchmarks.analysis import AnalysedAvatar, analyse
from benchmarks.material import make_avatar, make_speech, num_frames_of
from benchmarks.render import SIZES
from benchmarks.through_graph import create_avatar, measure_jobs
from lipwright.config import MediaLimits, PipelineConfig, RenderConfig
from lipwright.errors import LipwrightError
from lipwright.launch.serve_config import default_config_path
from lipwright.launch.service import private_config, running_service
from lipwright.media.audio import extract_speech
from lipwright.media.output.formats import MP4, H264Encoder
from lipwright.media.playback import Playback
from lipwright.media.probe import VideoInfo, probe_video
from lipwright.media.reader import FrameReader
from lipwright.media.writer import SegmentWriter
from lipwright.media.yuv_frame import YuvFrame
from lipwright.rendering.frame_pipeline import PlannedFace
from lipwright_client import Lipwright
from models.engines.protocol import Chunk, ComputeResources, Device, FrameSpan
from models.engines.weights.store import WeightsStore
from models.face.choice import FaceChoice
from models.matting.person import PersonSegmenter
from models.speech.level import SpeechLevel, measure_level
from models.speech.prosody import file_prosody
from models.track.tracker import FaceTracker
from tests.graph.engine_pictures import bring_weights

Part = Literal["networks", "codecs", "service"]
_PARTS: tuple[Part, ...] = ("networks", "codecs", "service")
_ENGINES = ("warp", "wav2lip", "wav2lip:onnx")
_SIZE = 512, 512
_SECONDS = 4.0
_CALLS = (8, 32, 96)
"""Frames per call. The CPU generates as many as the first, because some networks need seconds per frame there."""
_RATES = (16, 20, 24, 28)
_AT_ONCE = (1, 4, 10)
_PACKAGE_ERRORS = (ImportError, LipwrightError, RuntimeError, OSError, ValueError)


class Timed(NamedTuple):
    """A result, and the seconds that it took."""

    value: Any
    seconds: float


def main(
    device: Annotated[str, typer.Option(help="cuda or cpu.")] = "cuda",
    parts: Annotated[str, typer.Option(help="Comma-separated: networks, codecs, service.")] = ",".join(_PARTS),
    engines: Annotated[str, typer.Option(help="Comma-separated.")] = ",".join(_ENGINES),
    seconds: Annotated[float, typer.Option(min=1, help="Speech of the jobs through the service.")] = 12.0,
) -> None:
    """Compares a GPU with the CPU: networks, video codecs, and jobs of a whole service."""
    where = cast(Device, device)
    print(f"GPU: {_ask_driver('name,driver_version,memory.total') or 'none found'}")
    with tempfile.TemporaryDirectory(prefix="lipwright-bench-") as name:
        folder = Path(name)
        chosen: Mapping[str, Callable[[], None]] = {
            "networks": partial(_networks, where, engines.split(","), folder),
            "codecs": partial(_codecs, folder),
            "service": partial(_service, where, seconds, folder),
        }
        for part in parts.split(","):
            chosen[part]()


def _networks(device: Device, engines: Sequence[str], folder: Path) -> None:
    """Prints differences and frames per second of all networks."""
    video = make_avatar(*_SIZE, _SECONDS, folder)
    weights = folder / "weights"
    weights.mkdir()
    bring_weights(WeightsStore(folder / "data" / "weights"), weights)
    rows = (row for name in engines for row in _engine_rows(name, device, video, folder))
    headings = ("network", "precision", "difference, at most", "frames per second of the CPU", "of the device", "MiB")
    _print_table(f"Networks on {device}; speed by frames per call", headings, chain(rows, _face_rows(device, video)))


def _engine_rows(name: str, device: Device, video: Path, folder: Path) -> Iterator[tuple[str, ...]]:
    engine = name.partition(":")[0]
    precisions = ("fp32", "auto") if engine == "wav2lip" else ("",)
    for precision in precisions:
        options = {engine: {"precision": precision}} if precision else {}
        try:
            cached, _ = analyse(
                video, folder / f"{name}-{precision}", name, PipelineConfig(data_dir=folder / "data", engines=options)
            )
            speech = _Speech.of(make_speech(_SECONDS, folder), folder, cached.avatar.info)
            if precision == precisions[0]:
                yield _encoder_row(name, device, cached, speech)
            yield _generator_row(name, precision, device, cached, speech)
        except _PACKAGE_ERRORS as error:
            yield (name, precision, f"skipped: {error}"[:80], "", "", "")


class _Speech(NamedTuple):
    """Speech for one block of output frames."""

    path: Path
    level: SpeechLevel
    span: FrameSpan

    @classmethod
    def of(cls, audio: Path, folder: Path, info: VideoInfo) -> _Speech:
        path, num = folder / "speech.npy", num_frames_of(_SECONDS)
        extract_speech(audio, path, MediaLimits())
        return cls(path, measure_level(path), FrameSpan(info.fps, 0, num, num))


def _encoder_row(name: str, device: Device, cached: AnalysedAvatar, speech: _Speech) -> tuple[str, ...]:
    before = _used_mib()
    encoders = [cached.engine.audio_encoder(ComputeResources(each)) for each in _both(device)]
    expected, found = [_timed(partial(encoder.encode, *speech)) for encoder in encoders]
    rates = [f"{speech.span.num / each.seconds:.0f}" for each in (expected, found)]
    difference = f"{largest_difference(expected.value, found.value):.3g}"
    return f"{name}, audio", "", difference, *rates, f"{_used_mib() - before}"


def _generator_row(
    name: str, precision: str, device: Device, cached: AnalysedAvatar, speech: _Speech
) -> tuple[str, ...]:
    before, chunks = _used_mib(), _chunks(cached, speech)
    on_cpu, there = (cached.engine.face_generator(ComputeResources(each)) for each in _both(device))
    expected = _timed(partial(on_cpu.generate, chunks[0]))
    found = [_timed(partial(there.generate, chunk)) for chunk in chunks]
    rates = ", ".join(f"{num / each.seconds:.0f}" for num, each in zip(_CALLS, found, strict=True))
    difference = f"{largest_difference(expected.value, found[0].value):g}"
    return name, precision, difference, f"{_CALLS[0] / expected.seconds:.0f}", rates, f"{_used_mib() - before}"


def _both(device: Device) -> tuple[Device, Device]:
    return "cpu", device


def _chunks(cached: AnalysedAvatar, speech: _Speech) -> list[Chunk]:
    """Returns the first frames of a job, as many as `_CALLS` says."""
    avatar, engine, span = cached.avatar, cached.engine, speech.span
    heard = engine.audio_encoder(ComputeResources()).encode(*speech)
    prosody = file_prosody(speech.path, speech.level, span.seconds)
    shown = avatar.shown_frames(range(span.num), float(span.fps), Playback(), prosody)
    plan, *_ = engine.plan(avatar.speaking(1.0, shown), heard, span, avatar.rows(shown), None)
    chunks = []
    for num in _CALLS:
        with FrameReader(cached.video, avatar.info, RenderConfig().reader_cache_bytes) as reader:
            frames = list(avatar.frames(reader).read(shown[:num].tolist()))
        chunks.append(PlannedFace(engine.name, partial(engine.crop, avatar), plan.slice(0, num)).chunk(frames))
    return chunks


def _face_rows(device: Device, video: Path) -> Iterator[tuple[str, ...]]:
    """Yields the rows of the networks that find faces and people."""
    info = probe_video(video, MediaLimits())
    with FrameReader(video, info, RenderConfig().reader_cache_bytes) as reader:
        frames = list(reader.read(range(_CALLS[1])))

    def track(where: Device) -> Callable[[], Any]:
        tracker = FaceTracker(1, where)
        return lambda: tracker.track_chunk(frames, info.colour, FaceChoice.parse("largest"), None)[0]

    def segment(where: Device) -> Callable[[], Any]:
        segmenter = PersonSegmenter(1, where)
        return lambda: [segmenter(frame, info.colour) for frame in frames]

    for name, make in (("face tracker, pixels", track), ("person", segment)):
        before = _used_mib()
        try:
            expected, found = _timed(make("cpu")), _timed(make(device))
        except _PACKAGE_ERRORS as error:
            yield (name, "", f"skipped: {error}"[:80], "", "", "")
            continue
        rates = [f"{len(frames) / each.seconds:.0f}" for each in (expected, found)]
        yield (name, "", f"{largest_difference(expected.value, found.value):.3g}", *rates, f"{_used_mib() - before}")


def _timed(run: Callable[[], Any]) -> Timed:
    """Returns a result and the time of a call, the best of two after one to warm up."""
    value, spent = run(), []
    for _ in range(2):
        start = time.perf_counter()
        run()
        spent.append(time.perf_counter() - start)
    return Timed(value, min(spent))


def largest_difference(one: Any, other: Any) -> float:
    """Returns the largest difference between numbers at the same place of two results of the same type."""
    if dataclasses.is_dataclass(one):
        names = [field.name for field in dataclasses.fields(one)]
        one, other = ([getattr(each, name) for name in names] for each in (one, other))
    if isinstance(one, list | tuple):
        return max((largest_difference(*pair) for pair in zip(one, other, strict=True)), default=0.0)
    values = np.asarray(one)
    if not np.issubdtype(values.dtype, np.number) or not values.size:
        return 0.0
    return float(np.nanmax(np.abs(values.astype(np.float64) - np.asarray(other, np.float64))))


def _codecs(folder: Path) -> None:
    """Prints size, quality and speed of encoders, and the speed of decoders."""
    encoders, decoders = codecs_rows(make_avatar(1920, 1080, _SECONDS, folder), _CALLS[-1], folder)
    _print_table("1920x1080", ("encoder", "CRF", "kilobytes", "PSNR of luma, dB", "frames per second"), encoders)
    _print_table("1920x1080", ("decoder", "frames per second"), decoders)


def codecs_rows(
    video: Path, num_frames: int, folder: Path
) -> tuple[list[tuple[str, str, str, str, str]], list[tuple[str, str]]]:
    """Returns the rows of encoders, which encode the first frames of a video, and of decoders."""
    info = probe_video(video, MediaLimits())
    with FrameReader(video, info, 2**28) as reader:
        frames = [YuvFrame(*(plane.copy() for plane in frame)) for frame in reader.read(range(num_frames))]
    names: tuple[H264Encoder, ...] = ("x264", "nvenc")
    encoders = [_encoded(name, crf, frames, info, folder) for name in names for crf in _RATES]
    hardware = {"CPU": None, "NVDEC": HWAccel("cuda", allow_software_fallback=False)}
    return encoders, [_decoded(name, video, each) for name, each in hardware.items()]


def _encoded(
    encoder: H264Encoder, crf: int, frames: Sequence[YuvFrame], info: VideoInfo, folder: Path
) -> tuple[str, str, str, str, str]:
    start = time.perf_counter()
    try:
        writer = SegmentWriter(info, crf, RenderConfig().preset, file_format=MP4.with_encoder(encoder, info))
        for frame in frames:
            writer.write(frame)
        path = folder / "encoded.mp4"
        path.write_bytes(writer.finish())
    except (*_PACKAGE_ERRORS, av.FFmpegError) as error:
        return encoder, str(crf), f"skipped: {error}"[:80], "", ""
    spent = time.perf_counter() - start
    with FrameReader(path, probe_video(path, MediaLimits()), 2**28) as reader:
        pairs = zip(frames, reader.read(range(len(frames))), strict=True)
        squared = float(np.mean([np.mean((one.y.astype(np.float32) - other.y) ** 2) for one, other in pairs]))
    quality = 10 * np.log10(255**2 / squared)
    return encoder, str(crf), f"{path.stat().st_size / 1000:.0f}", f"{quality:.2f}", f"{len(frames) / spent:.0f}"


def _decoded(name: str, video: Path, hwaccel: HWAccel | None) -> tuple[str, str]:
    start = time.perf_counter()
    try:
        with av.open(str(video), hwaccel=hwaccel) as source:
            num = sum(frame.to_ndarray(format="yuv420p").shape[0] > 0 for frame in source.decode(video=0))
    except (*_PACKAGE_ERRORS, av.FFmpegError) as error:
        return name, f"skipped: {error}"[:80]
    return name, f"{num / (time.perf_counter() - start):.0f}"


def _service(device: Device, seconds: float, folder: Path) -> None:
    """Prints the throughput of jobs at the same time, and how busy the GPU is."""
    config = private_config(folder / "service", default_config_path(has_gpu=device == "cuda"))
    with running_service(config) as url:
        client, speech = Lipwright(url), make_speech(seconds, folder)
        for width, height in SIZES:
            avatar = create_avatar(client, make_avatar(width, height, seconds, folder))
            measure_jobs(client, avatar, make_speech(1.0, folder), 1, 1.0)  # opens files and warms caches
            headings = ("jobs", "frames per second", "CPU ms per frame", "GPU busy")
            rows = (_throughput_row(client, avatar, speech, num, seconds) for num in _AT_ONCE)
            _print_table(f"Service, warp, {width}x{height}", headings, rows)


def _throughput_row(client: Lipwright, avatar: str, speech: Path, num: int, seconds: float) -> tuple[str, ...]:
    with _busy_shares() as shares:
        found = measure_jobs(client, avatar, speech, num, seconds)
    busy = f"{np.mean(shares):.0f} %" if shares else "unknown"
    return str(num), f"{found.frames_per_second:.1f}", f"{found.cpu_ms_per_frame:.1f}", busy


def _print_table(title: str, headings: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Prints a Markdown table, each row when it is measured."""
    print(f"\n{title}:\n\n| {' | '.join(headings)} |\n|{'---|' * len(headings)}", flush=True)
    for row in rows:
        print(f"| {' | '.join(row)} |", flush=True)


@contextmanager
def _busy_shares() -> Iterator[list[float]]:
    """Collects how busy the GPU is, in percent, twice per second during the block."""
    shares, ended = list[float](), threading.Event()

    def watch() -> None:
        while not ended.wait(0.5):
            if answer := _ask_driver("utilization.gpu"):
                shares.append(float(answer))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield shares
    finally:
        ended.set()
        watcher.join()


def _used_mib() -> int:
    return int(_ask_driver("memory.used") or 0)


def _ask_driver(fields: str) -> str:
    """Returns what the driver says about the first GPU; an empty text without one."""
    command = ["nvidia-smi", f"--query-gpu={fields}", "--format=csv,noheader,nounits"]
    try:
        asked = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return asked.stdout.strip().partition("\n")[0] if asked.returncode == 0 else ""


if __name__ == "__main__":
    typer.run(main)
