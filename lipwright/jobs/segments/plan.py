"""Splits the output of a job into blocks of speech, and these into segments of video."""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise

from lipwright.config import LabelsConfig, RenderConfig
from lipwright.jobs.messages import FrameText, SegmentWatermark
from lipwright.jobs.model.plan import JobOptions
from lipwright.jobs.turns import cues_of
from lipwright.media.audio import num_output_frames
from lipwright.media.labels.watermark import Corner
from lipwright.media.playback import LoopMode, Playback, fit
from lipwright.media.probe import VideoInfo
from lipwright.media.subtitles.texts import shown_texts


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
    """Return the number of frames of a result at `fps`, and how its source is played; see `fit`."""
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
    options: JobOptions,
    segment: Segment,
    fps: Fraction,
    settings: LabelsConfig,
    invisible_id: str | None = None,
    texts: Sequence[FrameText] = (),
) -> SegmentWatermark:
    """Return the marks of one segment, of the `burnt_texts` of its job.

    The visible watermark is shown from the first output frame on, for a time.
    """
    corners, shown = visible_corners(options, settings), _texts_of(segment, texts)
    if settings.visible_seconds is None:
        return SegmentWatermark(corners, None, invisible_id, segment.start, shown)
    stop = math.ceil(Fraction(settings.visible_seconds) * fps)
    return SegmentWatermark(corners, max(0, stop - segment.start), invisible_id, segment.start, shown)


def visible_corners(options: JobOptions, settings: LabelsConfig) -> tuple[Corner, ...]:
    """Return the corners with a visible watermark: those that a job asks for, and that of all results."""
    wanted: tuple[tuple[bool, Corner], ...] = (
        (options.visible_label or settings.visible, "bottom_right"),
        (options.visible_label_top, "top_right"),
    )
    return tuple(corner for is_wanted, corner in wanted if is_wanted)


def burnt_texts(options: JobOptions, fps: Fraction) -> list[FrameText]:
    """Return the texts in the picture of a job, in frames of its result; they are in order and do not overlap."""
    texts = shown_texts(cues_of(options)) if options.subtitles == "burnt" else []
    frames = (
        FrameText(math.ceil(Fraction(start) * fps), math.ceil(Fraction(end) * fps), text) for start, end, text in texts
    )
    return [text for text in frames if text.first < text.stop]


def _texts_of(segment: Segment, texts: Sequence[FrameText]) -> tuple[FrameText, ...]:
    begin = bisect_right(texts, segment.start, key=lambda text: text.stop)
    end = bisect_left(texts, segment.stop, key=lambda text: text.first)
    return tuple(
        FrameText(max(first, segment.start) - segment.start, min(stop, segment.stop) - segment.start, text)
        for first, stop, text in texts[begin:end]
    )
