"""Fair queue: keys take turns, waits are bounded, and a cancelled request ends its work before the next one."""

from __future__ import annotations

import asyncio
import threading

import pytest

from lipwright.errors import BusyError
from lipwright.jobs.fair_queue import FairQueue, run_in_thread
from lipwright.media.cancel_token import CancelToken


class _Bench:
    """Requests that note when they have their turn, and end it when they are told."""

    def __init__(self, queue: FairQueue) -> None:
        self.queue, self.turns, self.end = queue, list[str](), asyncio.Semaphore(0)
        self.num_at_once = self.most_at_once = 0

    def ask(self, owner: str | None, name: str) -> asyncio.Task[None]:
        return asyncio.create_task(self._work(owner, name))

    async def _work(self, owner: str | None, name: str) -> None:
        async with self.queue.turn(owner):
            self.turns.append(name)
            self.num_at_once += 1
            self.most_at_once = max(self.most_at_once, self.num_at_once)
            try:
                await self.end.acquire()
            finally:
                self.num_at_once -= 1


async def _settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


@pytest.mark.parametrize("num_at_once", [1, 2])
async def test_fair_queue_with_one_key_in_a_loop_serves_others_next(num_at_once: int) -> None:
    bench = _Bench(FairQueue("inspection", num_at_once=num_at_once))
    tasks = [bench.ask("a", f"a{number}") for number in range(5)]
    await _settle()
    assert bench.turns == ["a0", "a1"][:num_at_once]
    tasks += [bench.ask("b", "b0"), bench.ask("b", "b1"), bench.ask("c", "c0")]
    for _ in tasks:
        await _settle()
        bench.end.release()
    await asyncio.gather(*tasks)
    assert bench.turns[num_at_once : num_at_once + 2] == ["b0", "c0"] and bench.most_at_once == num_at_once
    assert bench.turns.index("a1") < bench.turns.index("b1") < bench.turns.index("a4")
    assert num_at_once > 1 or bench.turns == ["a0", "b0", "c0", "a1", "b1", "a2", "a3", "a4"]


async def test_fair_queue_bounds_what_waits() -> None:
    bench = _Bench(FairQueue("inspection", max_waiting=5, max_own=2))
    tasks = [bench.ask(owner, "") for owner in ("a", "a", "a", None, None, None)]
    await _settle()
    with pytest.raises(BusyError, match="2 of this API key are waiting, the limit is 2"):
        await bench.ask("a", "")
    with pytest.raises(BusyError, match="5 are waiting, the limit is 5"):
        await bench.ask("b", "")
    for _ in tasks:
        bench.end.release()
    await asyncio.gather(*tasks)


async def test_fair_queue_bounds_the_wait() -> None:
    bench = _Bench(FairQueue("inspection", max_wait_s=0.05))
    first = bench.ask("a", "a0")
    await _settle()
    with pytest.raises(BusyError, match="none was free"):
        await bench.ask("b", "b0")
    bench.end.release()
    await first
    last = bench.ask("b", "b1")
    bench.end.release()
    await last
    assert bench.turns == ["a0", "b1"]


async def test_fair_queue_with_cancelled_requests_goes_on() -> None:
    bench = _Bench(FairQueue("inspection"))
    tasks = [bench.ask("a", "a0"), bench.ask("b", "b0"), bench.ask("c", "c0"), bench.ask("d", "d0")]
    await _settle()
    tasks[1].cancel()
    tasks[0].cancel()
    await _settle()
    assert bench.turns == ["a0", "c0"]
    bench.end.release()
    await tasks[2]  # the next one has its turn now, but has not noticed
    tasks[3].cancel()
    last = bench.ask("e", "e0")
    bench.end.release()
    await asyncio.wait_for(last, 10)
    assert bench.turns[-1] == "e0"


async def test_run_in_thread_cancelled_ends_its_work() -> None:
    has_started, has_ended = threading.Event(), threading.Event()

    def work(token: CancelToken) -> None:
        has_started.set()
        is_cancelled = threading.Event()
        with token.on_cancel(is_cancelled.set):
            assert is_cancelled.wait(30)
        has_ended.set()

    running = asyncio.create_task(run_in_thread(work))
    await asyncio.to_thread(has_started.wait, 30)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert has_ended.is_set()
