"""The limit of segments in flight while the service stops."""

from __future__ import annotations

import asyncio

from config import PipelineConfig
from jobs.segments.limiter import SegmentLimiter


async def test_drain_waits_for_segments_in_flight_and_starts_no_other() -> None:
    limiter = SegmentLimiter(PipelineConfig())
    await limiter.acquire("job")
    draining = asyncio.create_task(limiter.drain(30))
    await asyncio.sleep(0)
    waiting = asyncio.create_task(limiter.acquire("job"))
    await asyncio.sleep(0.01)
    assert not draining.done()
    limiter.release("job")
    assert await draining
    assert not waiting.done()
    waiting.cancel()


async def test_drain_without_segments_returns_at_once() -> None:
    assert await SegmentLimiter(PipelineConfig()).drain(0.001)


async def test_drain_gives_up_after_its_time() -> None:
    limiter = SegmentLimiter(PipelineConfig())
    await limiter.acquire("job")
    assert not await limiter.drain(0.01)
