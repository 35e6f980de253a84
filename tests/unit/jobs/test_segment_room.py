"""How many segments may be in flight: a job's own in any case, and what the Studios of now have room for beyond."""

from __future__ import annotations

import asyncio

import pytest

from config import JobConfig, PipelineConfig, RenderConfig
from jobs.segment_room import SegmentRoom, SegmentWindow


def _room(num_studios: int = 0, **render: float) -> SegmentRoom:
    jobs = JobConfig(max_running_jobs=4, running_jobs_per_studio=2)
    settings = {"segment_window": 2, "segments_per_studio": 3, **render}
    room = SegmentRoom(PipelineConfig(jobs=jobs, render=RenderConfig.model_validate(settings)))
    room.set_num_studios(num_studios)
    return room


async def _fill(window: SegmentWindow) -> asyncio.Task[None]:
    """A job that takes whatever it may have; the task waits for one more."""

    async def take_all() -> None:
        while True:
            await window.acquire()

    task = asyncio.create_task(take_all())
    await _settle()
    return task


async def _settle() -> None:
    for _ in range(50):
        await asyncio.sleep(0)


def test_a_job_alone_has_what_the_studios_have_room_for() -> None:
    async def run(num_studios: int, **render: float) -> int:
        window = _room(num_studios, **render).window()
        (await _fill(window)).cancel()
        return window.num_in_flight

    assert [asyncio.run(run(number)) for number in (0, 1, 4)] == [2, 3, 12]
    assert asyncio.run(run(4, segments_per_studio=0)) == 2


def test_more_studios_make_room_for_those_who_wait() -> None:
    async def run() -> None:
        room = _room(1)
        window = room.window()
        task = await _fill(window)
        room.set_num_studios(3)
        await _settle()
        assert window.num_in_flight == 9
        task.cancel()

    asyncio.run(run())


def test_a_newcomer_has_its_own_at_once_and_then_an_equal_share() -> None:
    async def run() -> tuple[int, int, int]:
        room = _room(4)
        first, second = room.window(), room.window()
        tasks = [await _fill(first), await _fill(second)]
        at_once = second.num_in_flight
        for _ in range(20):
            # What the first one has sent comes back; the place goes to the one who has less.
            longest = max(first, second, key=lambda window: window.num_in_flight)
            longest.release()
            await _settle()
        for task in tasks:
            task.cancel()
        return at_once, first.num_in_flight, second.num_in_flight

    at_once, first, second = asyncio.run(run())
    assert at_once == 2
    assert first + second <= 12 + 2
    assert abs(first - second) <= 1


@pytest.mark.parametrize("is_granted", [False, True], ids=["waiting", "granted"])
def test_a_job_that_is_cancelled_leaves_its_place(is_granted: bool) -> None:
    async def run() -> None:
        room = _room(0)
        other, window = room.window(), room.window()
        await other.acquire()
        for _ in range(2):
            await window.acquire()
        waits = asyncio.create_task(window.acquire())
        await _settle()
        if is_granted:
            window.release()  # the place is given, and the task is cancelled before it hears of it
        waits.cancel()
        await asyncio.gather(waits, return_exceptions=True)
        assert window.num_in_flight == (1 if is_granted else 2)
        assert await asyncio.wait_for(_takes(room), 10)

    async def _takes(room: SegmentRoom) -> bool:
        await room.window().acquire()
        return True

    asyncio.run(run())


def test_jobs_at_work_grow_with_the_studios_and_never_below_the_setting() -> None:
    assert [_room(number).max_running_jobs for number in (0, 1, 2, 8)] == [4, 4, 4, 16]
    assert SegmentRoom(PipelineConfig()).max_running_jobs == PipelineConfig().jobs.max_running_jobs


def test_who_has_a_fixed_window_need_not_know_how_many_studios_run() -> None:
    assert _room().follows_studios
    assert not SegmentRoom(PipelineConfig()).follows_studios
