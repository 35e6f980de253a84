import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from lipwright.config import LabelsConfig
from lipwright.jobs.messages import FrameText, SegmentWatermark
from lipwright.media.labels.watermark import Overlay, Watermark
from lipwright.media.output.dynamic_range import SDR, to_range
from lipwright.media.watermark.embedder import InvisibleWatermark
from lipwright.media.yuv_frame import YuvFrame, to_rgb
from lipwright.rendering.frame_marks import segment_marks
from tests.unit.media.clips import info_of, write_video
from tests.unit.models.films import read_film


def _kinds(watermark: SegmentWatermark) -> list[list[type]]:
    return [[type(mark) for mark in marks] for marks in segment_marks(info_of(320, 240), watermark, 6, LabelsConfig())]


def test_segment_marks_visible_only_on_the_first_frames() -> None:
    watermark = SegmentWatermark(("bottom_right",), 2, "0123456789abcdef")
    assert _kinds(watermark) == [[InvisibleWatermark, Watermark]] * 2 + [[InvisibleWatermark]] * 4
    assert _kinds(SegmentWatermark(("bottom_right",))) == [[Watermark]] * 6
    assert _kinds(SegmentWatermark()) == [[]] * 6


def test_segment_marks_with_alpha_are_stronger_on_the_person() -> None:
    def changes(**options: Any) -> NDArray[np.int64]:
        planes = YuvFrame(*(np.full(shape, 90, np.uint8) for shape in ((240, 320), (120, 160), (120, 160))))
        watermark = SegmentWatermark((), 0, "0123456789abcdef")
        marks = segment_marks(info_of(320, 240), watermark, 1, LabelsConfig(), **options)
        marks[0][0].draw(planes)
        return np.abs(planes.y.astype(np.int64) - 90)

    assert (changes().max(), changes(has_alpha=True).max()) == (1, 2)
    person = changes(has_alpha=True, person=(0.25, 0.0, 0.75, 1.0))
    columns = np.flatnonzero(person.any(axis=0))
    assert (columns.min(), columns.max()) == (80, 239)


needs_font = pytest.mark.skipif(shutil.which("fc-list") is None, reason="needs fontconfig and a font")


@needs_font
def test_segment_marks_text_is_laid_out_once() -> None:
    watermark = SegmentWatermark(texts=(FrameText(1, 3, "Hello"), FrameText(3, 4, "World")))
    assert _kinds(watermark) == [[], [Overlay], [Overlay], [Overlay], [], []]
    marks = segment_marks(info_of(320, 240), watermark, 6, LabelsConfig())
    assert marks[1][0] is marks[2][0] and marks[2][0] is not marks[3][0]


@needs_font
@pytest.mark.parametrize(("transfer", "white"), [(16, 0.58), (18, 0.75), (1, 1.0)], ids=["pq", "hlg", "sdr"])
@pytest.mark.parametrize("full", [False, True], ids=["limited", "full"])
def test_segment_marks_white_is_the_reference_white(tmp_path: Path, transfer: int, white: float, full: bool) -> None:
    """`white` is the signal of 203 cd/m2 by ITU-R BT.2408, table 1."""
    matrix = 1 if transfer == 1 else 9
    tags = {"color_trc": transfer, "colorspace": matrix, "color_primaries": matrix, "color_range": 2 if full else 1}
    path = write_video(tmp_path / "source.mp4", 2, size=(640, 360), pixel_format="yuv420p10le", tags=tags)
    info, (frame,) = read_film(path, [0])
    assert (info.colour.transfer, info.colour.full_range) == (transfer, full)
    dark = [np.minimum(plane, 60) for plane in frame]
    watermark = SegmentWatermark(("bottom_right",), 1, texts=(FrameText(0, 1, "HHHH"),))
    subtitle, visible = segment_marks(info, watermark, 1, LabelsConfig())[0]
    luma = 255 * white if full else 16 + 219 * white
    for mark in (subtitle, visible):
        planes = YuvFrame(*(plane.copy() for plane in dark))
        mark.draw(planes)
        assert abs(float(planes.y.max()) - luma) <= 2
    grey = np.full((180, 320), 128, np.uint8)
    planes = YuvFrame(np.full((360, 640), round(luma), np.uint8), grey, grey)
    visible.draw(planes)
    shown = to_range(to_rgb(planes, info.colour), info.colour, SDR)
    assert abs(int(shown.min()) - 128) <= 4  # half of white behind the text
