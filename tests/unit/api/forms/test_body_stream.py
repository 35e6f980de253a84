"""Bodies on their way: how slowly they may come, and how their place grows with them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from types import SimpleNamespace
from typing import Any

import pytest
from starlette.requests import Request

from api.body_window import MinRate
from api.forms import body_stream
from api.forms.body_stream import BodyGrant, BodyStream
from errors import CapacityError, StageTimeoutError
from jobs.admission import AdmitRequest
from tests.unit.api_server import MemoryService
from tests.unit.cluster.virtual_time import VirtualTimeLoop

Run = Callable[[Coroutine[Any, Any, int]], int]


def body_of(pieces: AsyncIterator[bytes]) -> Request:
    async def receive() -> Any:
        piece = await anext(pieces, None)
        return {"type": "http.request", "body": piece or b"", "more_body": piece is not None}

    return Request({"type": "http", "method": "POST", "path": "/", "headers": []}, receive)


async def paced(pieces: list[tuple[float, int]]) -> AsyncIterator[bytes]:
    for after_s, num_bytes in pieces:
        await asyncio.sleep(after_s)
        yield bytes(num_bytes)


async def read(service: MemoryService, pieces: list[tuple[float, int]], pace: MinRate, work_s: float = 0.0) -> int:
    place = await service.admit(AdmitRequest(num_bytes=None, max_bytes=10**9))
    total = 0
    async for piece in BodyStream(body_of(paced(pieces)), pace, BodyGrant(service, place)):
        total += len(piece)
        await asyncio.sleep(work_s)
    return total


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs to the end on a simulated clock: what a busy machine takes longer is not counted."""

    def run_to_the_end(work: Coroutine[Any, Any, int]) -> int:
        with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
            monkeypatch.setattr(body_stream, "time", SimpleNamespace(monotonic=runner.get_loop().time))
            return runner.run(work)

    return run_to_the_end


def test_a_byte_now_and_then_is_too_slow_from_the_start(service: MemoryService, run: Run) -> None:
    with pytest.raises(StageTimeoutError, match="too slow"):
        run(read(service, [(0.1, 1)] * 6, MinRate(1000, 0.5)))


def test_what_came_fast_before_buys_one_pause(service: MemoryService, run: Run) -> None:
    fast = [(0.0, 100_000)]
    assert run(read(service, [*fast, (0.2, 1)], MinRate(1000, 1.0))) == 100_001
    with pytest.raises(StageTimeoutError):
        run(read(service, [*fast, *[(0.2, 1)] * 20], MinRate(1000, 1.0)))


def test_a_body_at_the_least_rate_is_taken(service: MemoryService, run: Run) -> None:
    pieces = [(0.1, 101)] * 30
    assert run(read(service, pieces, MinRate(1000, 0.5))) == 3030


def test_time_that_the_service_takes_is_not_charged(service: MemoryService, run: Run) -> None:
    assert run(read(service, [(0.0, 10)] * 8, MinRate(1000, 0.5), work_s=0.2)) == 80


def test_a_place_grows_with_its_body_until_there_is_no_room(service: MemoryService, run: Run) -> None:
    pace = MinRate(1000, 20.0)
    assert run(read(service, [(0.0, 30_000)] * 10, pace)) == 300_000
    assert service.extended == [120_000, 240_000], "asked for as the granted bytes are used up"
    service.max_body_bytes = 200_000
    with pytest.raises(CapacityError):
        run(read(service, [(0.0, 30_000)] * 10, pace))
