"""The plan of a job: blocks and segments tile the output exactly, and which frames carry a mark."""

from __future__ import annotations

from fractions import Fraction

import pytest

from config import LabelsConfig, RenderConfig
from jobs.messages import SegmentWatermark
from jobs.model.plan import JobOptions
from jobs.model.turns import PlannedTurn
from jobs.segments.plan import Segment, plan_blocks, segment_watermark

RENDER = RenderConfig()
FPS = Fraction(30000, 1001)


@pytest.mark.parametrize("num_frames", [1, 2, 25, 26, 99, 100, 749, 750, 751, 1600, 90_000])
@pytest.mark.parametrize("fps", [Fraction(25), Fraction(30000, 1001), Fraction(60), Fraction(1)])
def test_segments_tile_the_output(num_frames: int, fps: Fraction) -> None:
    blocks = plan_blocks(num_frames, fps, RENDER)
    segments = [segment for block in blocks for segment in block.segments]
    assert [segment.number for segment in segments] == list(range(len(segments)))
    frames = [frame for segment in segments for frame in range(segment.start, segment.stop)]
    assert frames == list(range(num_frames))
    for block in blocks:
        assert (block.segments[0].start, block.segments[-1].stop) == (block.start, block.stop)


def test_the_first_segment_is_short_and_no_other_is_tiny() -> None:
    blocks = plan_blocks(2000, Fraction(25), RENDER)
    lengths = [segment.stop - segment.start for block in blocks for segment in block.segments]
    assert lengths[0] == 25
    assert min(lengths[1:]) >= 50
    assert max(lengths) < 150
    assert plan_blocks(750, Fraction(25), RENDER)[0] == blocks[0], "a longer job starts alike"


@pytest.mark.parametrize(("seconds", "num_marked"), [(2.0, 60), (5.5, 165), (1000.0, 600), (None, 600)])
def test_it_stands_from_the_opening_frame_on_for_so_long(seconds: float | None, num_marked: int) -> None:
    settings, options = LabelsConfig(visible_seconds=seconds), JobOptions(engine="warp", visible_label=True)
    marked: list[bool] = []
    for block in plan_blocks(600, FPS, RenderConfig()):
        for segment in block.segments:
            num_frames = segment.stop - segment.start
            watermark = segment_watermark(options, segment, FPS, settings)
            assert watermark.corners == ("bottom_right",)
            num_here = num_frames if watermark.num_frames is None else min(num_frames, watermark.num_frames)
            marked += [True] * num_here + [False] * (num_frames - num_here)
    assert marked == [True] * num_marked + [False] * (600 - num_marked)


def test_it_stands_where_it_is_asked_for() -> None:
    segment, settings = Segment(0, 0, 25), LabelsConfig()
    assert segment_watermark(JobOptions(engine="warp"), segment, FPS, settings) == SegmentWatermark()
    later = segment_watermark(JobOptions(engine="warp"), Segment(1, 25, 125), FPS, settings, "0123456789abcdef")
    assert later == SegmentWatermark(invisible_id="0123456789abcdef", first_frame=25)
    both = JobOptions(engine="warp", visible_label=True, visible_label_top=True)
    assert segment_watermark(both, segment, FPS, settings).corners == ("bottom_right", "top_right")


def test_burnt_texts_are_shown_in_their_frames() -> None:
    turns = (
        PlannedTurn(start=0.5, end=1.5, text="a"),
        PlannedTurn(start=1.5, end=2, text="b"),
        PlannedTurn(start=3, end=4),
    )
    options = JobOptions(engine="warp", turns=turns, subtitles="burnt")
    shown = [""] * 100
    for segment in (Segment(0, 0, 20), Segment(1, 20, 45), Segment(2, 45, 100)):
        for first, stop, text in segment_watermark(options, segment, Fraction(25), LabelsConfig()).texts:
            shown[segment.start + first : segment.start + stop] = [text] * (stop - first)
    assert shown == [""] * 13 + ["a"] * 25 + ["b"] * 12 + [""] * 50
    assert not segment_watermark(JobOptions(engine="warp", turns=turns), segment, Fraction(25), LabelsConfig()).texts
