"""Which frames of a job carry the visible mark."""

from __future__ import annotations

import math
from fractions import Fraction

from config import LabelsConfig
from jobs.messages import SegmentWatermark
from jobs.segments import Segment
from media.labels.watermark import Corner
from storage.records import JobOptions


def segment_watermark(options: JobOptions, segment: Segment, fps: Fraction, settings: LabelsConfig) -> SegmentWatermark:
    """The mark of one segment: from the opening frame on, for as long as the settings say."""
    asked: tuple[tuple[bool, Corner], ...] = (
        (options.visible_label, "bottom_right"),
        (options.visible_label_top, "top_right"),
    )
    corners = tuple(corner for is_asked, corner in asked if is_asked)
    if settings.visible_seconds is None:
        return SegmentWatermark(corners)
    stop = math.ceil(Fraction(settings.visible_seconds) * fps)
    return SegmentWatermark(corners, max(0, stop - segment.start))
