"""Bodies on their way: how slowly they may come, and how their place grows with them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from starlette.requests import Request

from api.forms.body_stream import BodyGrant, BodyStream, Pace
from errors import CapacityError, StageTimeoutError
from storage.records import AdmitRequest
from tests.unit.api_server import MemoryService


def body_of(pieces: AsyncIterator[bytes]) -> Request:
    async def receive() -> Any:
        piece = await anext(pieces, None)
        return {"type": "http.request", "body": piece or b"", "more_body": piece is not None}

    return Request({"type": "http", "method": "POST", "path": "/", "headers": []}, receive)


async def paced(pieces: list[tuple[float, int]]) -> AsyncIterator[bytes]:
    for after_s, num_bytes in pieces:
        await asyncio.sleep(after_s)
        yield bytes(num_bytes)


async def read(service: MemoryService, pieces: list[tuple[float, int]], pace: Pace, work_s: float = 0.0) -> int:
    place = await service.admit(AdmitRequest(num_bytes=None, max_bytes=10**9))
    total = 0
    async for piece in BodyStream(body_of(paced(pieces)), pace, BodyGrant(service, place)):
        total += len(piece)
        await asyncio.sleep(work_s)
    return total


@pytest.fixture
def service(tmp_path: Path) -> MemoryService:
    return MemoryService(tmp_path)


def test_a_byte_now_and_then_is_too_slow_from_the_start(service: MemoryService) -> None:
    with pytest.raises(StageTimeoutError, match="too slow"):
        asyncio.run(asyncio.wait_for(read(service, [(0.1, 1)] * 100, Pace(1000, 0.5)), 5))


def test_what_came_fast_before_buys_one_pause(service: MemoryService) -> None:
    fast = [(0.0, 100_000)]
    assert asyncio.run(read(service, [*fast, (0.2, 1)], Pace(1000, 1.0))) == 100_001
    with pytest.raises(StageTimeoutError):
        asyncio.run(read(service, [*fast, *[(0.2, 1)] * 20], Pace(1000, 1.0)))


def test_a_body_at_the_least_rate_is_taken(service: MemoryService) -> None:
    pieces = [(0.1, 400)] * 15  # 4000 a second less what sleeping takes longer
    assert asyncio.run(read(service, pieces, Pace(1000, 0.5))) == 6000


def test_time_that_the_service_takes_is_not_charged(service: MemoryService) -> None:
    assert asyncio.run(read(service, [(0.0, 10)] * 8, Pace(1000, 0.5), work_s=0.2)) == 80


def test_a_place_grows_with_its_body_until_there_is_no_room(service: MemoryService) -> None:
    pace = Pace(1000, 20.0)
    assert asyncio.run(read(service, [(0.0, 30_000)] * 10, pace)) == 300_000
    assert service.extended == [120_000, 240_000], "asked for as the granted bytes are used up"
    service.max_body_bytes = 200_000
    with pytest.raises(CapacityError):
        asyncio.run(read(service, [(0.0, 30_000)] * 10, pace))
