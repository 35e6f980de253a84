"""Runs one job in this process, without Ray: the cost of each stage."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks.analysis import AnalysedAvatar
from lipwright.config import MediaLimits, RenderConfig
from lipwright.jobs.segments.plan import plan_blocks
from lipwright.media.audio import SPEECH_SAMPLE_RATE, extract_speech, num_output_frames
from lipwright.media.audio_parts import AudioPart
from lipwright.media.playback import Playback
from lipwright.media.probe import probe_audio
from lipwright.media.reader import FrameReader
from lipwright.media.result.concat import concat_segments
from lipwright.media.result.sound_mix import ResultSound
from lipwright.media.watermark.code import IDENTIFIER_BYTES
from lipwright.media.watermark.embedder import InvisibleWatermark
from lipwright.media.writer import SegmentWriter
from lipwright.rendering.frame_pipeline import PlannedFace
from models.avatar.avatar import Avatar
from models.engines.protocol import ComputeResources, Engine, FaceGenerator, FrameSpan, Plan
from models.mouth.motion import RunningStats
from models.quality.findings import OutputFacts, make_report
from models.quality.measures import BlockMeasures
from models.quality.report import QualityReport
from models.speech.level import measure_level
from models.speech.prosody import file_prosody


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


class RenderedSegment(NamedTuple):
    """Result of one job: output frames, CPU ms per frame by stage, without loading weights, and quality measures."""

    num_frames: int
    cpu_ms: dict[str, float]
    report: QualityReport


def render_staged(cached: AnalysedAvatar, audio: Path, folder: Path) -> RenderedSegment:
    """Renders one job with a cached avatar on the CPU into `folder`/result.mp4."""
    cv2.setNumThreads(0)  # as in a replica
    render, clock, avatar, engine = RenderConfig(), StageClock(), cached.avatar, cached.engine
    info = avatar.info
    num_frames = num_output_frames(probe_audio(audio, MediaLimits()).duration_seconds, info.fps)
    audio_encoder = engine.audio_encoder(ComputeResources())
    studio = _Studio(avatar, engine, engine.face_generator(ComputeResources()), clock)
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
                prosody = file_prosody(speech, level, span.seconds)
                shown = avatar.shown_frames(range(span.first, span.stop), float(info.fps), Playback(), prosody)
                said = avatar.speaking(1.0, shown)
                plan, state, measured = engine.plan(said, heard, span, avatar.rows(shown), state)
                measures.append(measured)
            for segment in block.segments:
                piece = plan.slice(segment.start - block.start, segment.stop - block.start)
                segments.append(folder / f"{segment.number}.mp4")
                read = shown[segment.start - block.start : segment.stop - block.start]
                segments[-1].write_bytes(studio.render(reader, piece, read, segment.start))
    with clock.stage("join"):
        concat_segments(segments, ResultSound([AudioPart(audio)]), folder / "result.mp4", info, num_frames)
    output = OutputFacts(num_frames, info.fps, level.num_samples / SPEECH_SAMPLE_RATE)
    report = make_report(output, [sum(measures[1:], measures[0])], studio.silent_motion)
    return RenderedSegment(num_frames, {name: ms / num_frames for name, ms in clock.cpu_ms.items()}, report)


@dataclass
class _Studio:
    """Renders one segment as Studio and FaceSynthesis do, in one process."""

    avatar: Avatar
    engine: Engine
    face_generator: FaceGenerator
    clock: StageClock
    silent_motion: RunningStats = RunningStats()

    def render(self, reader: FrameReader, plan: Plan, shown: NDArray[np.int64], first_frame: int) -> bytes:
        render, stage = RenderConfig(), self.clock.stage
        mark = InvisibleWatermark(self.avatar.info, bytes(IDENTIFIER_BYTES), first_frame)
        writer = SegmentWriter(self.avatar.info, render.crf, render.preset)
        for start in range(0, len(plan), render.chunk_frames):
            piece = plan.slice(start, min(start + render.chunk_frames, len(plan)))
            with stage("decode"):
                frames = list(self.avatar.frames(reader).read(shown[start : start + len(piece)].tolist()))
            with stage("cut"):
                crop = partial(self.engine.crop, self.avatar)
                face = PlannedFace(self.engine.name, crop, piece, occluders=self.avatar.occluders)
                chunk = face.chunk(frames)
            with stage("synthesize"):
                patches = self.face_generator.generate(chunk)
            self.silent_motion += patches.silent_motion
            with stage("paste and encode"):
                for number, frame in enumerate(frames):
                    patch = face.shown_patch(frame, number, patches)
                    writer.write(frame, [] if patch is None else [patch], [mark])
        with stage("paste and encode"):
            return writer.finish()
