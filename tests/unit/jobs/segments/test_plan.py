"""Blocks and segments tile the output; which frames carry a mark; the limit of segments in flight."""

from __future__ import annotations

import asyncio
from collections import Counter
from fractions import Fraction

import pytest

from lipwright.config import JobConfig, LabelsConfig, PipelineConfig, RenderConfig
from lipwright.jobs.messages import SegmentWatermark
from lipwright.jobs.model.plan import JobOptions
from lipwright.jobs.model.turns import PlannedTurn
from lipwright.jobs.segments.limiter import SegmentLimiter
from lipwright.jobs.segments.plan import Segment, burnt_texts, plan_blocks, segment_watermark

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
    of_all = segment_watermark(JobOptions(engine="warp"), segment, FPS, LabelsConfig(visible=True))
    assert of_all.corners == ("bottom_right",), "whatever the job, or a revision of it, asks for"


def test_burnt_texts_are_shown_in_their_frames() -> None:
    turns = (
        PlannedTurn(start=0.5, end=1.5, text="a"),
        PlannedTurn(start=1.5, end=2, text="b"),
        PlannedTurn(start=3, end=4),
    )
    options = JobOptions(engine="warp", turns=turns, subtitles="burnt")
    texts, shown = burnt_texts(options, Fraction(25)), [""] * 100
    for segment in (Segment(0, 0, 20), Segment(1, 20, 45), Segment(2, 45, 100)):
        for first, stop, text in segment_watermark(options, segment, FPS, LabelsConfig(), None, texts).texts:
            shown[segment.start + first : segment.start + stop] = [text] * (stop - first)
    assert shown == [""] * 13 + ["a"] * 25 + ["b"] * 12 + [""] * 50
    assert burnt_texts(JobOptions(engine="warp", turns=turns), Fraction(25)) == []


async def test_drain_waits_for_segments_in_flight_and_starts_no_other() -> None:
    limiter = SegmentLimiter(PipelineConfig())
    assert await limiter.drain(0.001), "nothing is in flight"
    limiter = SegmentLimiter(PipelineConfig())
    await limiter.acquire("job")
    assert not await limiter.drain(0.01), "it gives up after its time"
    draining = asyncio.create_task(limiter.drain(30))
    await asyncio.sleep(0)
    waiting = asyncio.create_task(limiter.acquire("job"))
    await asyncio.sleep(0.01)
    assert not draining.done()
    limiter.release("job")
    assert await draining
    assert not waiting.done()
    waiting.cancel()


def _make_limiter(num_studios: int = 0, **render: float) -> SegmentLimiter:
    jobs = JobConfig(max_running_jobs=4, running_jobs_per_studio=2)
    settings = {"segment_window": 2, "segments_per_studio": 3, **render}
    limiter = SegmentLimiter(PipelineConfig(jobs=jobs, render=RenderConfig.model_validate(settings)))
    limiter.set_num_studios(num_studios)
    return limiter


async def _fill(limiter: SegmentLimiter, job_id: str) -> asyncio.Task[None]:
    """A job that takes whatever it may have; the task waits for one more."""

    async def take_all() -> None:
        while True:
            await limiter.acquire(job_id)

    task = asyncio.create_task(take_all())
    await _settle()
    return task


async def _settle() -> None:
    for _ in range(50):
        await asyncio.sleep(0)


async def test_a_single_job_gets_the_permits_of_all_studios() -> None:
    async def run(num_studios: int, **render: float) -> int:
        limiter = _make_limiter(num_studios, **render)
        (await _fill(limiter, "job")).cancel()
        return limiter.num_in_flight["job"]

    assert [await run(number) for number in (0, 1, 4)] == [2, 3, 12]
    assert await run(4, segments_per_studio=0) == 2
    limiter = _make_limiter(1)
    waiting = await _fill(limiter, "job")
    limiter.set_num_studios(3)
    await _settle()
    assert limiter.num_in_flight["job"] == 9, "more studios grant permits to jobs that wait"
    waiting.cancel()


async def test_new_job_gets_permits_at_once_and_then_an_equal_share() -> None:
    limiter = _make_limiter(4)
    tasks = [await _fill(limiter, "first"), await _fill(limiter, "second")]
    assert limiter.num_in_flight["second"] == 2
    for _ in range(20):
        # What the first one has sent comes back; the place goes to the one who has less.
        limiter.release(max("first", "second", key=lambda job_id: limiter.num_in_flight[job_id]))
        await _settle()
    for task in tasks:
        task.cancel()
    first, second = limiter.num_in_flight["first"], limiter.num_in_flight["second"]
    assert first + second <= 12 + 2
    assert abs(first - second) <= 1


@pytest.mark.parametrize("is_granted", [False, True], ids=["waiting", "granted"])
async def test_cancelled_job_returns_its_permits(is_granted: bool) -> None:
    limiter = _make_limiter(0)
    await limiter.acquire("other")
    for _ in range(2):
        await limiter.acquire("job")
    waits = asyncio.create_task(limiter.acquire("job"))
    await _settle()
    if is_granted:
        limiter.release("job")  # the permit is granted, and the task is cancelled before it resumes
    waits.cancel()
    await asyncio.gather(waits, return_exceptions=True)
    assert limiter.num_in_flight["job"] == (1 if is_granted else 2)
    await asyncio.wait_for(limiter.acquire("third"), 10)


def test_max_running_jobs_grows_with_the_studios() -> None:
    assert [_make_limiter(number).max_running_jobs for number in (0, 1, 2, 8)] == [4, 4, 4, 16]
    fixed = SegmentLimiter(PipelineConfig())
    assert fixed.max_running_jobs == PipelineConfig().jobs.max_running_jobs
    assert _make_limiter().follows_studios and not fixed.follows_studios


@pytest.mark.parametrize("num_studios", [0, 4], ids=["windows", "studios"])
async def test_owners_get_segments_in_proportion_to_weights(num_studios: int) -> None:
    weights = {"a": 1, "b": 2, "c": 4}
    settings = RenderConfig(segment_window=2, segments_per_studio=3)
    limiter = SegmentLimiter(PipelineConfig(render=settings), lambda owner: weights[owner or ""])
    limiter.set_num_studios(num_studios)
    in_studio: asyncio.Queue[str] = asyncio.Queue()  # first in, first out, as Serve queues them
    done = Counter[str]()

    async def job(owner: str, number: int) -> None:
        while True:
            await limiter.acquire(f"{owner}{number}", owner)
            in_studio.put_nowait(f"{owner}{number}")

    # The lightest owner has the most jobs.
    tasks = [asyncio.create_task(job(owner, number)) for owner in weights for number in range(4 // weights[owner])]
    for number in range(750):
        await _settle()
        job_id = in_studio.get_nowait()
        done[job_id[0]] += number >= 50  # then all of them wait
        limiter.release(job_id)
    for task in tasks:
        task.cancel()
    assert done == {owner: pytest.approx(100 * weight, rel=0.1) for owner, weight in weights.items()}
