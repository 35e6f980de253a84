"""The limit of segments in flight: shares of jobs and owners, and while the service stops."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from config import JobConfig, PipelineConfig, RenderConfig
from jobs.segments.limiter import SegmentLimiter


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
