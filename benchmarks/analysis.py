"""Analyses avatars in this process, without Ray."""

from __future__ import annotations

import time
from contextlib import closing
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import cv2

from lipwright.config import MediaLimits, PipelineConfig, RenderConfig
from lipwright.jobs.ports import TRACK_CHUNK_FRAMES
from lipwright.media.audio import extract_speech
from lipwright.media.decoding.channel import frame_bytes
from lipwright.media.kept_squares import KeptSquares, SquareReader
from lipwright.media.probe import STILL_FPS, VideoInfo, probe_video
from lipwright.media.reader import FrameReader
from models.avatar.avatar import Avatar
from models.avatar.face_region import keep_face
from models.avatar.folder import analysis_folder
from models.engines.catalog import EngineCatalog
from models.engines.protocol import SOURCE_AUDIO_FPS, AudioEncoder, ComputeResources, Engine, FrameSpan
from models.face.choice import FaceChoice
from models.matting.generator import MatteGenerator
from models.matting.person import PersonSegmenter
from models.speech.level import measure_level
from models.track.raw_landmarks import RawLandmarks
from models.track.square_pixels import pixel_aspect
from models.track.tracker import FaceTracker


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
        info = replace(info, fps=Fraction(STILL_FPS))
    uses_audio = info.has_audio and engine.uses_source_audio
    audio_encoder = engine.audio_encoder(ComputeResources()) if uses_audio else None
    start, cache_bytes = time.process_time(), render.reader_cache_bytes
    with FrameReader(video, info, cache_bytes) as reader:
        cut_out = MatteGenerator(PersonSegmenter(num_threads=1)).cut_out
        kept = KeptSquares(0 if info.num_frames * frame_bytes(info.width, info.height) <= cache_bytes else 2**29)
        avatar = Avatar.build(folder, info, _landmarks(reader, info, kept), reader, cut_out)
        analysis_folder(folder, engine).mkdir(parents=True)
        source_audio_features = (
            None if audio_encoder is None else _source_audio_features(audio_encoder, video, folder, info)
        )
        with closing(kept):
            engine.analyse(avatar, SquareReader(avatar.frames(reader), kept), source_audio_features, lambda: False)
    return AnalysedAvatar(avatar, engine, video), (time.process_time() - start) * 1000 / info.num_frames


def _landmarks(reader: FrameReader, info: VideoInfo, kept: KeptSquares) -> RawLandmarks:
    """Tracks the largest face; keeps squares around it for the analysis."""
    tracker, choice = FaceTracker(num_threads=1, device="cpu"), FaceChoice.parse("largest")
    chunks, state, step = [], None, TRACK_CHUNK_FRAMES
    for first in range(0, info.num_frames, step):
        frames = reader.read(range(first, min(first + step, info.num_frames)))
        keep = partial(keep_face, kept, first)
        raw, state = tracker.track_chunk(frames, info.colour, choice, state, pixel_aspect(info), keep)
        chunks.append(raw)
    return RawLandmarks.concatenate(chunks)


def _source_audio_features(audio_encoder: AudioEncoder, video: Path, folder: Path, info: VideoInfo) -> Any:
    """Returns the audio features of the source's own audio, for as much of it as a job uses."""
    speech = folder / "speech.npy"
    extract_speech(video, speech, MediaLimits())
    num = max(1, int(min(info.duration_seconds, 2 * RenderConfig().block_seconds) * SOURCE_AUDIO_FPS))
    return audio_encoder.encode(speech, measure_level(speech), FrameSpan(Fraction(SOURCE_AUDIO_FPS), 0, num, num))
