"""Which marks each frame of a segment carries."""

from __future__ import annotations

import shutil

import pytest

from config import LabelsConfig
from jobs.messages import FrameText, SegmentWatermark
from media.labels.watermark import Overlay, Watermark
from media.watermark.embedder import InvisibleWatermark
from rendering.frame_marks import segment_marks
from tests.unit.media.clips import info_of


def _kinds(watermark: SegmentWatermark) -> list[list[type]]:
    return [[type(mark) for mark in marks] for marks in segment_marks(info_of(320, 240), watermark, 6, LabelsConfig())]


def test_watermarks_of_the_first_frames() -> None:
    watermark = SegmentWatermark(("bottom_right",), 2, "0123456789abcdef")
    assert _kinds(watermark) == [[InvisibleWatermark, Watermark]] * 2 + [[InvisibleWatermark]] * 4
    assert _kinds(SegmentWatermark(("bottom_right",))) == [[Watermark]] * 6
    assert _kinds(SegmentWatermark()) == [[]] * 6


@pytest.mark.skipif(shutil.which("fc-list") is None, reason="needs fontconfig and a font")
def test_a_text_is_laid_out_once_for_all_its_frames() -> None:
    watermark = SegmentWatermark(texts=(FrameText(1, 3, "Hello"), FrameText(3, 4, "World")))
    assert _kinds(watermark) == [[], [Overlay], [Overlay], [Overlay], [], []]
    marks = segment_marks(info_of(320, 240), watermark, 6, LabelsConfig())
    assert marks[1][0] is marks[2][0]
    assert marks[2][0] is not marks[3][0]
