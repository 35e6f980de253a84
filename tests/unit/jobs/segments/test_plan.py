"""The plan of a job: blocks and segments tile the output exactly."""

from fractions import Fraction

import pytest

from config import RenderConfig
from jobs.segments.plan import plan_blocks

RENDER = RenderConfig()


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


def test_the_plan_of_a_longer_job_starts_alike() -> None:
    short, long = plan_blocks(750, Fraction(25), RENDER), plan_blocks(1500, Fraction(25), RENDER)
    assert short[0] == long[0]
