"""Chooses the watermarks of the frames of a segment or a live session."""

from __future__ import annotations

import hashlib

from config import LabelsConfig
from jobs.messages import SegmentWatermark
from media.labels.watermark import FrameMark, Watermark, WatermarkStyle
from media.probe import VideoInfo
from media.watermark.code import IDENTIFIER_BYTES
from media.watermark.embedder import InvisibleWatermark


def segment_marks(
    info: VideoInfo, watermark: SegmentWatermark, num_frames: int, labels: LabelsConfig
) -> list[tuple[FrameMark, ...]]:
    """Return the watermarks of each frame of a segment."""
    invisible: tuple[FrameMark, ...] = ()
    if watermark.invisible_id is not None:
        invisible = (InvisibleWatermark(info, bytes.fromhex(watermark.invisible_id), watermark.first_frame),)
    if not watermark.corners:
        return [invisible] * num_frames
    visible = Watermark(info, _style(labels), watermark.corners)
    num_visible = num_frames if watermark.num_frames is None else min(watermark.num_frames, num_frames)
    return [(*invisible, visible)] * num_visible + [invisible] * (num_frames - num_visible)


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
