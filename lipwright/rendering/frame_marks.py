"""Chooses the watermarks of the frames of a segment or a live session."""

from __future__ import annotations

import hashlib

from lipwright.config import LabelsConfig
from lipwright.jobs.messages import SegmentWatermark
from lipwright.media.labels.watermark import FrameMark, Watermark, WatermarkStyle
from lipwright.media.probe import VideoInfo
from lipwright.media.subtitles.burnt import subtitle_overlay
from lipwright.media.watermark.code import IDENTIFIER_BYTES
from lipwright.media.watermark.embedder import FLAT_LEVELS, MAX_LEVELS, InvisibleWatermark
from lipwright.media.watermark.region import WHOLE_FRAME, Box, region_around


def segment_marks(
    info: VideoInfo,
    watermark: SegmentWatermark,
    num_frames: int,
    labels: LabelsConfig,
    *,
    has_alpha: bool = False,
    person: Box | None = None,
) -> list[tuple[FrameMark, ...]]:
    """Return the watermarks and subtitles of each frame of a segment.

    It is transparent in parts if `has_alpha`; `person` is where the person is then, if that is known.
    """
    marks: list[list[FrameMark]] = [[] for _ in range(num_frames)]

    def add(mark: FrameMark, first: int = 0, stop: int | None = None) -> None:
        for of_frame in marks[first:stop]:
            of_frame.append(mark)

    for text in watermark.texts:
        add(subtitle_overlay(info, text.text), text.first, text.stop)
    if watermark.invisible_id is not None:
        # Of a transparent result, only the cells on the person are seen, so they are stronger, and all are there.
        levels = MAX_LEVELS if has_alpha else FLAT_LEVELS
        region = region_around(person) if has_alpha and person is not None else WHOLE_FRAME
        add(InvisibleWatermark(info, bytes.fromhex(watermark.invisible_id), watermark.first_frame, levels, region))
    if watermark.corners:
        add(Watermark(info, _style(labels), watermark.corners), stop=watermark.num_frames)
    return [tuple(of_frame) for of_frame in marks]


def live_marks(info: VideoInfo, session_id: str, first_frame: int, labels: LabelsConfig) -> list[FrameMark]:
    """Return the watermarks of every frame of a chunk; all chunks of a session carry the same identifier."""
    marks: list[FrameMark] = []
    if labels.invisible:
        identifier = hashlib.sha256(session_id.encode()).digest()[:IDENTIFIER_BYTES]
        marks.append(InvisibleWatermark(info, identifier, first_frame))
    if labels.visible:
        marks.append(Watermark(info, _style(labels), ("bottom_right",)))
    return marks


def _style(labels: LabelsConfig) -> WatermarkStyle:
    return WatermarkStyle(labels.visible_language, labels.visible_height)
