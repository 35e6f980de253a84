"""Splits the output of a job into blocks of speech, and these into segments of video."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise

from config import LabelsConfig, RenderConfig
from jobs.messages import FrameText, SegmentWatermark
from jobs.model.plan import JobOptions
from jobs.turns import cues_of
from media.audio import num_output_frames
from media.labels.watermark import Corner
from media.playback import LoopMode, Playback, fit
from media.probe import VideoInfo
from media.subtitles.texts import shown_texts


@dataclass(frozen=True)
class Segment:
    """Output frames [start, stop) that are rendered and encoded together, or copied from the source."""

    number: int
    start: int
    stop: int
    is_copy: bool = False


@dataclass(frozen=True)
class Block:
    """Output frames [start, stop) that are planned together, and the segments that tile them."""

    start: int
    stop: int
    segments: tuple[Segment, ...]


def fit_to_speech(loop: LoopMode, speech_seconds: float, source: VideoInfo, fps: Fraction) -> tuple[int, Playback]:
    """Return the number of frames of a result at `fps`, and how its source is played; see `media.playback.fit`."""
    num_source_frames = None if source.is_still else max(1, int(source.num_frames * fps / source.fps))
    num_frames, playback = fit(loop, num_output_frames(speech_seconds, fps), num_source_frames)
    return num_frames, playback._replace(speed=playback.speed * float(source.fps / fps))


def plan_blocks(
    num_frames: int, fps: Fraction, render: RenderConfig, copied: Sequence[tuple[int, int]] = ()
) -> list[Block]:
    """Tile [0, num_frames) with blocks of about `block_seconds` and segments of about `segment_seconds`.

    The first segment is `first_segment_seconds` long so that a preview starts early. The ranges `copied`, in order, are
    blocks of one segment. The plan depends only on the arguments, so a resumed job finds its finished segments again.
    """
    edges = [0, *(edge for copy in copied for edge in copy), num_frames]
    blocks: list[Block] = []
    for place, (first, last) in enumerate(pairwise(edges)):
        number = blocks[-1].segments[-1].number + 1 if blocks else 0
        if place % 2:
            blocks.append(Block(first, last, (Segment(number, first, last, is_copy=True),)))
        else:
            blocks += _rendered_blocks(first, last, number, fps, render)
    return blocks


def _rendered_blocks(first: int, last: int, number: int, fps: Fraction, render: RenderConfig) -> Iterator[Block]:
    """Tile [first, last), which may be empty; `number` is that of its first segment."""
    per_block = max(1, round(render.block_seconds * fps))
    per_segment = max(1, round(render.segment_seconds * fps))
    for start in range(first, last, per_block):
        stop = min(start + per_block, last)
        edges = [start]
        if start == 0:
            edges.append(min(stop, max(1, round(render.first_segment_seconds * fps))))
        while edges[-1] < stop:
            left = stop - edges[-1]
            # A rest shorter than half a segment joins the last one: each segment costs a call and a keyframe.
            edges.append(stop if left < 1.5 * per_segment else edges[-1] + per_segment)
        segments = tuple(Segment(number + place, *ends) for place, ends in enumerate(pairwise(edges)))
        number += len(segments)
        yield Block(start, stop, segments)


def segment_watermark(
    options: JobOptions, segment: Segment, fps: Fraction, settings: LabelsConfig, invisible_id: str | None = None
) -> SegmentWatermark:
    """Return the marks of one segment: the visible watermark is shown from the first output frame on, for a time."""
    asked: tuple[tuple[bool, Corner], ...] = (
        (options.visible_label, "bottom_right"),
        (options.visible_label_top, "top_right"),
    )
    corners = tuple(corner for is_asked, corner in asked if is_asked)
    texts = tuple(_burnt_texts(options, segment, fps)) if options.subtitles == "burnt" else ()
    if settings.visible_seconds is None:
        return SegmentWatermark(corners, None, invisible_id, segment.start, texts)
    stop = math.ceil(Fraction(settings.visible_seconds) * fps)
    return SegmentWatermark(corners, max(0, stop - segment.start), invisible_id, segment.start, texts)


def _burnt_texts(options: JobOptions, segment: Segment, fps: Fraction) -> Iterator[FrameText]:
    for text in shown_texts(cues_of(options)):
        frames = (math.ceil(Fraction(seconds) * fps) - segment.start for seconds in (text.start, text.end))
        first, stop = (min(max(frame, 0), segment.stop - segment.start) for frame in frames)
        if first < stop:
            yield FrameText(first, stop, text.text)
