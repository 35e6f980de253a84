"""Blocking work in a replica: never in two hands, and over when its request is over."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

from deployments.replica import Loaded, run_stoppable, run_to_end


def test_a_cancelled_request_waits_for_its_thread() -> None:
    ended = threading.Event()

    def work() -> None:
        time.sleep(0.3)
        ended.set()

    async def cancel_in_the_middle() -> None:
        task = asyncio.create_task(run_to_end(work))
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert ended.is_set()

    asyncio.run(cancel_in_the_middle())


def test_long_work_is_told_to_stop() -> None:
    steps = 0

    def work(stop: threading.Event) -> None:
        nonlocal steps
        while not stop.is_set() and steps < 500:
            steps += 1
            time.sleep(0.01)

    async def cancel_in_the_middle() -> None:
        task = asyncio.create_task(run_stoppable(work))
        await asyncio.sleep(0.1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancel_in_the_middle())
    assert 0 < steps < 100


def test_results_and_errors_pass_through() -> None:
    assert asyncio.run(run_stoppable(lambda stop: 3)) == 3
    with pytest.raises(ZeroDivisionError):
        asyncio.run(run_to_end(lambda: 1 / 0))


def test_what_is_dropped_is_closed_once() -> None:
    closed: list[str] = []
    store: Loaded[str, str] = Loaded(2, closed.append)
    for name in ("a", "b", "c"):
        store.put(name, name.upper())
    assert closed == ["A"]
    assert store.take("b", lambda: "new") == "B"
    assert store.take("b", lambda: "new") == "new"
    store.put("c", "again")
    assert closed == ["A", "C"]
