"""Runs one job in this process, without Ray: the cost of each stage, and the floor that any implementation has."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import av
import cv2
from av.video.frame import PictureType

from benchmarks.material import FPS
from config import MediaLimits, PipelineConfig, RenderConfig
from jobs.segments import plan_blocks
from media.audio import SPEECH_SAMPLE_RATE, extract_speech
from media.concat import concat_segments
from media.probe import VideoInfo, probe_video
from media.reader import FrameReader
from media.writer import SegmentWriter
from models.avatar.avatar import Avatar
from models.avatar.folder import analysis_folder
from models.engines.catalog import EngineCatalog
from models.engines.protocol import SOURCE_AUDIO_FPS, AudioEncoder, Engine, FaceGenerator, FrameSpan, Machine, Plan
from models.face.choice import FaceChoice
from models.mouth.motion import RunningStats
from models.quality.findings import OutputFacts, make_report
from models.quality.measures import BlockMeasures
from models.quality.report import QualityReport
from models.speech.level import measure_level
from models.speech.stress import file_stress
from models.track.raw_landmarks import RawLandmarks
from models.track.square_pixels import pixel_aspect
from models.track.tracker import FaceTracker


@dataclass
class StageClock:
    """CPU milliseconds of this process (all its threads) by stage."""

    cpu_ms: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Adds the cost of the block to `name`."""
        start = time.process_time()
        try:
            yield
        finally:
            self.cpu_ms[name] = self.cpu_ms.get(name, 0.0) + (time.process_time() - start) * 1000


class Yardsticks(NamedTuple):
    """Reference costs in CPU ms per frame.

    Attributes:
        floor: Decoding and encoding with the settings of a job.
        veryfast: The same with x264's `veryfast` and CRF 20, independent of the job settings.
    """

    floor: float
    veryfast: float

    @classmethod
    def measure(cls, video: Path, num_frames: int) -> Yardsticks:
        """Measures both for `num_frames` of `video`."""
        settings = RenderConfig(), RenderConfig(crf=20, preset="veryfast")
        return cls(*(floor_cpu_ms(video, num_frames, each) for each in settings))

    def as_json(self) -> dict[str, float]:
        """Returns the values for `benchmarks/results.json`."""
        return {f"{name}_cpu_ms_per_frame": round(ms, 2) for name, ms in self._asdict().items()}


def floor_cpu_ms(video: Path, num_frames: int, render: RenderConfig) -> float:
    """Returns CPU ms per frame of decoding `num_frames` of `video`, in a loop, and encoding them unchanged.

    Same encoder, CRF, preset and threads as in a job; forward only, one copy less, one file instead of segments.
    """
    start = time.process_time()
    with av.open("/dev/null", "w", format="mp4") as target:
        options = {"crf": str(render.crf), "preset": render.preset}
        encoder = target.add_stream("libx264", rate=FPS, options=options)
        encoder.codec_context.thread_count = 1
        encoder.codec_context.time_base = Fraction(1, FPS)
        for number, frame in enumerate(islice(_over_and_over(video), num_frames)):
            if number == 0:
                encoder.width, encoder.height, encoder.pix_fmt = frame.width, frame.height, "yuv420p"
            frame.pict_type, frame.pts, frame.time_base = PictureType.NONE, number, Fraction(1, FPS)
            target.mux(encoder.encode(frame))
        target.mux(encoder.encode(None))
    return (time.process_time() - start) * 1000 / num_frames


def _over_and_over(video: Path) -> Iterator[av.VideoFrame]:
    while True:
        with av.open(str(video)) as source:
            source.streams.video[0].codec_context.thread_count = 1
            yield from source.decode(source.streams.video[0])


@dataclass(frozen=True)
class AnalysedAvatar:
    """An avatar analysed for an engine, and its video."""

    avatar: Avatar
    engine: Engine
    video: Path


def analyse(
    video: Path, folder: Path, engine_name: str = "warp", config: PipelineConfig | None = None
) -> tuple[AnalysedAvatar, float]:
    """Tracks the face in `video`, analyses it into `folder`, and returns it and the CPU ms per source frame.

    The source's own audio is encoded as in a job; loading the audio encoder is not counted.
    """
    cv2.setNumThreads(0)  # as in a replica
    render, limits = RenderConfig(), MediaLimits()
    engine = EngineCatalog(config or PipelineConfig()).engine(engine_name)
    info = probe_video(video, limits)
    if info.is_still:
        info = replace(info, fps=Fraction(render.still_fps))
    uses_audio = info.has_audio and engine.uses_source_audio
    audio_encoder = engine.audio_encoder(Machine()) if uses_audio else None
    start = time.process_time()
    tracker, choice = FaceTracker(num_threads=1, device="cpu"), FaceChoice.parse("largest")
    chunks, state = [], None
    with FrameReader(video, info, render.reader_cache_bytes) as reader:
        for first in range(0, info.num_frames, render.track_chunk_frames):
            frames = reader.read(range(first, min(first + render.track_chunk_frames, info.num_frames)))
            raw, state = tracker.track_chunk(frames, info.colour, choice, state, pixel_aspect(info))
            chunks.append(raw)
        avatar = Avatar.build(folder, info, RawLandmarks.concatenate(chunks), reader)
        analysis_folder(folder, engine).mkdir(parents=True)
        source_audio_features = (
            None if audio_encoder is None else _source_audio_features(audio_encoder, video, folder, info)
        )
        engine.analyse(avatar, avatar.frames(reader), source_audio_features, lambda: False)
    return AnalysedAvatar(avatar, engine, video), (time.process_time() - start) * 1000 / info.num_frames


def _source_audio_features(audio_encoder: AudioEncoder, video: Path, folder: Path, info: VideoInfo) -> Any:
    """Returns the audio features of the source's own audio, for as much of it as a job uses."""
    speech = folder / "speech.npy"
    extract_speech(video, speech, MediaLimits())
    num = max(1, int(min(info.duration_seconds, 2 * RenderConfig().block_seconds) * SOURCE_AUDIO_FPS))
    return audio_encoder.encode(speech, measure_level(speech), FrameSpan(Fraction(SOURCE_AUDIO_FPS), 0, num, num))


class RenderedSegment(NamedTuple):
    """Result of one job: CPU ms per frame by stage, without loading weights, and its quality measures."""

    cpu_ms: dict[str, float]
    report: QualityReport


def render_staged(cached: AnalysedAvatar, audio: Path, num_frames: int, folder: Path) -> RenderedSegment:
    """Renders one job with a cached avatar on the CPU into `folder`/result.mp4."""
    cv2.setNumThreads(0)  # as in a replica
    render, clock, avatar, engine = RenderConfig(), StageClock(), cached.avatar, cached.engine
    info = avatar.info
    audio_encoder = engine.audio_encoder(Machine())
    studio = _Studio(avatar, engine, engine.face_generator(Machine()), clock)
    speech, segments, state, measures = folder / "speech.npy", list[Path](), None, list[BlockMeasures]()
    with clock.stage("features"):
        extract_speech(audio, speech, MediaLimits())
        level = measure_level(speech)
    with FrameReader(cached.video, info, render.reader_cache_bytes) as reader:
        for block in plan_blocks(num_frames, info.fps, render):
            span = FrameSpan(info.fps, block.start, block.stop - block.start, num_frames)
            with clock.stage("features"):
                heard = audio_encoder.encode(speech, level, span)
            with clock.stage("landmarks"):
                stress = file_stress(speech, level, span.seconds)
                played = avatar.shown_frames(range(span.first, span.stop), "pingpong", stress)
                plan, state, measured = engine.plan(avatar, heard, span, played, state)
                measures.append(measured)
            for segment in block.segments:
                piece = plan.slice(segment.start - block.start, segment.stop - block.start)
                segments.append(folder / f"{segment.number}.mp4")
                segments[-1].write_bytes(studio.render(reader, piece))
    with clock.stage("join"):
        concat_segments(segments, audio, folder / "result.mp4", info, num_frames)
    output = OutputFacts(num_frames, info.fps, level.num_samples / SPEECH_SAMPLE_RATE)
    report = make_report(output, sum(measures[1:], measures[0]), studio.silent_motion)
    return RenderedSegment({name: ms / num_frames for name, ms in clock.cpu_ms.items()}, report)


@dataclass
class _Studio:
    """Renders one segment as Studio and FaceSynthesis do, in one process."""

    avatar: Avatar
    engine: Engine
    face_generator: FaceGenerator
    clock: StageClock
    silent_motion: RunningStats = RunningStats()

    def render(self, reader: FrameReader, plan: Plan) -> bytes:
        render, stage = RenderConfig(), self.clock.stage
        writer = SegmentWriter(self.avatar.info, render.crf, render.preset)
        for start in range(0, len(plan), render.chunk_frames):
            piece = plan.slice(start, min(start + render.chunk_frames, len(plan)))
            with stage("decode"):
                frames = list(self.avatar.frames(reader).read(piece.source_index.tolist()))
            with stage("cut"):
                chunk = self.engine.cut(self.avatar, piece, frames)
            with stage("synthesize"):
                patches = self.face_generator.generate(chunk)
            self.silent_motion += patches.silent_motion
            with stage("paste and encode"):
                for number, frame in enumerate(frames):
                    writer.write(frame, patches.patch(number))
        with stage("paste and encode"):
            return writer.finish()
