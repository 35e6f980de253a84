"""Work in a replica: bounded, over when its request is over, missed when it does not come back; drained nodes."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import math
import os
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from unittest.mock import Mock

import pytest
from ray.exceptions import RayActorError

from deployments.runtime import node_drain, replica_watch
from deployments.runtime.node_drain import NodeDrain
from deployments.runtime.replica import CallGate, ComputeClock, Threads, stage_method
from deployments.runtime.replica_watch import ReplicaWatch
from lipwright.errors import CapacityError, StageTimeoutError
from lipwright.jobs.model.compute import ComputeTime, metered, received
from lipwright.jobs.requests import ReplicaStatus
from lipwright.media.cancel_token import CancelToken
from lipwright.rendering.lru_pool import LruPool
from lipwright.telemetry.log_context import CallContext
from lipwright.telemetry.trace_context import TraceContext
from tests.otlp_collector import Collector
from tests.waiting import until, wait_until

SEEN = {"Studio": ReplicaStatus(num_running=1, num_other=0, is_healthy=True)}


@pytest.fixture
def hung() -> Iterator[threading.Event]:
    """What work waits for that hangs; set when the test is over."""
    event = threading.Event()
    yield event
    event.set()


async def test_a_silent_controller_is_asked_one_question(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replica_watch, "_ANSWER_S", 0.5)
    answer = threading.Event()
    ask = Mock(side_effect=lambda: SEEN if answer.wait(30) else {})
    watch = ReplicaWatch(ask)
    first = await asyncio.gather(*(watch.read() for _ in range(20)))
    assert first == [{}] * 20, "nothing was known before"
    later = asyncio.create_task(watch.read())
    await asyncio.sleep(0.1)
    assert ask.call_count == 1
    answer.set()
    # Where this process stands still for as long as the controller is waited for, the next call gets the news.
    assert await later == SEEN or await watch.read() == SEEN


async def test_replicas_read_recently_are_not_waited_for(hung: threading.Event) -> None:
    ask = Mock(return_value=SEEN)
    watch = ReplicaWatch(ask)
    assert await watch.read() == SEEN
    ask.side_effect = lambda: hung.wait(60)
    watch._asked_at = -math.inf  # the next query is due
    async with asyncio.timeout(2.0):
        assert await watch.read() == SEEN
    await until(lambda: ask.call_count == 2)
    hung.set()
    assert await ReplicaWatch(Mock(side_effect=RayActorError())).read() == {}, "Serve's controller is gone"


async def test_run_passes_results_errors_and_context() -> None:
    name: contextvars.ContextVar[str] = contextvars.ContextVar("name")
    threads = Threads("Studio")
    name.set("request 7")
    assert await threads.run(lambda token: name.get(), 60) == "request 7"
    with pytest.raises(ZeroDivisionError):
        await threads.run(lambda token: 1 / 0, 60)
    threads.check()


def burn(seconds: float) -> None:
    """Use the CPU in this thread, with the interpreter lock released in between."""
    until = time.thread_time() + seconds
    while time.thread_time() < until:
        time.sleep(0)


async def test_run_divides_cpu_and_gpu_time_among_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = ComputeClock(has_gpu=True)
    now = [0.0]
    monkeypatch.setattr("deployments.runtime.replica.time.process_time", lambda: 2 * now[0])
    monkeypatch.setattr("deployments.runtime.replica.time.monotonic", lambda: now[0])

    def work(seconds: float, inner: Callable[[], object] = lambda: None) -> ComputeTime:
        def pass_time(token: CancelToken) -> None:
            now[0] += seconds
            inner()
            now[0] += seconds

        with metered() as meter:
            clock.measure(pass_time, CancelToken())
            return meter.total

    shorter: list[ComputeTime] = []
    longer = work(5.0, lambda: shorter.append(work(1.0)))
    assert shorter == [ComputeTime(2.0, 1.0)], "half of what both took"
    assert longer == ComputeTime(22.0, 11.0)
    now[0] += 100.0  # nobody works
    assert work(1.0) == ComputeTime(4.0, 2.0)


class Stage:
    def __init__(self) -> None:
        self.threads = Threads("Stage")
        self._gate = CallGate(self.threads)

    @stage_method
    async def work(self, earlier: int, seconds: float) -> int:
        await self.threads.run(lambda token: burn(seconds), 60)
        return earlier + 1


async def test_stage_method_returns_compute_time_of_chain() -> None:
    stage = Stage()
    with metered() as meter:
        first = await stage.work(CallContext("job"), 0, 0.01)
        assert first.compute.cpu_seconds >= 0.01 and not meter.total.cpu_seconds
        second = await stage.work(CallContext("job"), first, 0.02)  # type: ignore[arg-type]  # Serve resolves it
        assert second.value == 2 and second.compute.cpu_seconds >= 0.03
        assert received(second) == 2 and meter.total == second.compute


async def test_enter_while_work_hangs_is_refused(hung: threading.Event) -> None:
    threads = Threads("FaceSynthesis")
    gate = CallGate(threads)

    async def enter(attempt: int, timeout_s: float = 0.0) -> None:
        async with gate.enter(CallContext("job", attempt=attempt)):
            if timeout_s:
                await threads.run(lambda token: hung.wait(), timeout_s)

    hanging = asyncio.create_task(enter(1, 0.3))
    await asyncio.sleep(0)
    with pytest.raises(CapacityError, match="hangs"):
        await enter(2)
    with pytest.raises(StageTimeoutError):
        await hanging
    for attempt in (1, 2):
        with pytest.raises(CapacityError, match="hangs"):
            await enter(attempt)
    hung.set()
    await until(lambda: not threads.num_overdue)  # it comes back after all
    await enter(2)


async def test_stage_method_is_a_span_below_its_attempt(collector: Collector) -> None:
    trace = TraceContext("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331")
    assert received(await Stage().work(CallContext("job", 3, trace=trace), 6, 0.0)) == 7
    (span,) = await asyncio.to_thread(collector.wait, "Stage.work")
    assert span.parent_id == trace.span_id
    assert span.attributes == {"job": "job", "segment": 3, "replica": f"process {os.getpid()}"}


async def test_enter_of_two_retries_at_once_refuses_the_second() -> None:
    gate, begun = CallGate(Threads("FaceSynthesis")), list[str]()

    async def enter(name: str) -> None:
        async with gate.enter(CallContext("job", attempt=2)):
            begun.append(name)

    first, second = await asyncio.gather(enter("first"), enter("second"), return_exceptions=True)
    assert (first, begun) == (None, ["first"]) and isinstance(second, CapacityError)


async def test_run_waits_for_a_free_thread() -> None:
    at_work = most = 0

    def work(token: CancelToken, num_awaited: int) -> None:
        nonlocal at_work, most
        at_work += 1
        most = max(most, at_work)
        time.sleep(0.05)
        wait_until(lambda: most >= num_awaited)
        at_work -= 1

    for max_at_once in (1, 2):
        threads, most = Threads("FaceSynthesis", max_at_once=max_at_once), 0
        await asyncio.gather(*(threads.run(partial(work, num_awaited=max_at_once), 60) for _ in range(4)))
        assert most == max_at_once


async def test_run_after_timeout_of_the_call_before_it_runs(hung: threading.Event) -> None:
    threads = Threads("FaceSynthesis", max_at_once=1)
    hanging = asyncio.create_task(threads.run(lambda token: hung.wait(20), 0.1))
    await asyncio.sleep(0)
    assert await threads.run(lambda token: 7, 60) == 7
    with pytest.raises(StageTimeoutError):
        await hanging


async def test_finished_work_is_not_referenced() -> None:
    frames = Mock()
    await Threads("Studio").run(partial(lambda frames, stop: None, frames), 60)
    held = weakref.ref(frames)
    del frames
    gc.collect()
    assert held() is None


async def test_failed_work_is_not_referenced_by_its_error() -> None:
    class Frames:
        """Large."""

    held: list[weakref.ref[Frames]] = []

    def work(token: CancelToken) -> None:
        frames = Frames()
        held.append(weakref.ref(frames))
        raise ValueError("too large")

    gc.disable()
    try:
        with pytest.raises(ValueError, match="too large") as caught:
            await Threads("Studio").run(work, 60)
        assert held[0]() is None
        assert caught.traceback[-1].name == "work", "the traceback still shows where it was raised"
    finally:
        gc.enable()


async def test_cancelled_run_stops_its_work_and_waits_for_it() -> None:
    threads = Threads("Studio")
    steps: list[float] = []

    def work(token: CancelToken) -> None:
        while not token.is_cancelled():
            steps.append(time.monotonic())
            time.sleep(0.01)
        time.sleep(0.2)
        steps.append(-1)

    task = asyncio.create_task(threads.run(work, 60))
    await until(lambda: len(steps) > 2)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert steps[-1] == -1
    threads.check()


async def test_run_past_its_timeout_fails_the_health_check(hung: threading.Event) -> None:
    threads = Threads("Studio")
    used = {await threads.run(lambda token: threading.get_ident(), 60) for _ in range(20)}
    assert len(used) == 1
    with pytest.raises(StageTimeoutError, match="Studio"):
        await threads.run(lambda token: hung.wait(), 0.2)
    with pytest.raises(StageTimeoutError, match="1 task"):
        threads.check()
    assert await threads.run(lambda token: threading.get_ident(), 60) not in used, "others go on"
    hung.set()
    await until(lambda: not threads.num_overdue)
    threads.check()  # it came back after all
    with pytest.raises(StageTimeoutError):
        await threads.run(_wait_for_cancellation, 0.2)
    await until(lambda: not threads.num_overdue)  # a busy machine may not have let it end yet
    threads.check()


def _wait_for_cancellation(token: CancelToken) -> None:
    while not token.is_cancelled():
        time.sleep(0.01)


async def test_cancelled_run_that_hangs_fails_the_health_check(hung: threading.Event) -> None:
    threads, hang = Threads("FaceSynthesis", max_unwind_s=0.3), Mock(side_effect=lambda token: hung.wait())
    task = asyncio.create_task(threads.run(hang, 60))
    await until(lambda: hang.called)
    threads.check()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await until(lambda: threads.num_overdue == 1)
    with pytest.raises(StageTimeoutError, match="FaceSynthesis"):
        threads.check()


def test_hanging_work_keeps_no_process_alive(repo_root: Path) -> None:
    code = (
        "import asyncio, time; from deployments.runtime.replica import Threads\n"
        "async def main():\n"
        "    try: await Threads('x').run(lambda token: time.sleep(60), .1)\n"
        "    except TimeoutError: print('bound passed')\n"
        "asyncio.run(main())"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=repo_root, capture_output=True, text=True, timeout=120)
    assert done.stdout == "bound passed\n"


def test_cancellation_token_calls_only_registered_callbacks() -> None:
    token, before, during, after = CancelToken(), Mock(), Mock(), Mock()
    with token.on_cancel(before):
        pass
    with token.on_cancel(during):
        token.cancel()
    with token.on_cancel(after):
        assert [each.call_count for each in (before, during, after)] == [0, 1, 1]


def test_lru_pool_keeps_several_of_one_key_and_closes_the_oldest() -> None:
    closed: list[str] = []
    store: LruPool[str, str] = LruPool(2, closed.append)
    for name in ("a", "b", "c"):
        store.put(name, name.upper())
    assert closed == ["A"]
    assert [store.take("b", lambda: "new") for _ in range(2)] == ["B", "new"]
    store.put("c", "second C")
    assert [store.take("c", lambda: "new") for _ in range(3)] == ["second C", "C", "new"]
    store.put("b", "B")
    store.put("a", "A")
    assert store.take_cheapest(lambda name: None if name == "a" else 1, lambda: "new") == "B"
    assert store.take_cheapest(lambda name: None, lambda: "new") == "new"
    store.take("a", lambda: "new")
    store.put("d", "D")
    store.drop(lambda name: name == "d")
    assert closed == ["A", "D"]


def ingress(num_running: int) -> dict[str, ReplicaStatus]:
    return {"Ingress": ReplicaStatus(num_running=num_running, num_other=1, is_healthy=True)}


@pytest.mark.parametrize(
    ("is_draining", "num_running", "moves"), [(False, 1, False), (True, 0, False), (True, 1, True)]
)
async def test_has_successor_needs_drain_and_running_replica(is_draining: bool, num_running: int, moves: bool) -> None:
    drain = NodeDrain(lambda: is_draining, lambda: ingress(num_running))
    assert (await drain.is_draining(), await drain.has_successor()) == (is_draining, moves)


async def test_until_successor_waits_for_the_drain(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(node_drain, "_FRESH_S", 0.01)
    answers = iter([False, False, True])
    drain = NodeDrain(lambda: next(answers), lambda: ingress(1))
    async with asyncio.timeout(30):
        await drain.until_successor()
    assert next(answers, None) is None


async def test_is_draining_keeps_last_answer_while_ray_is_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(node_drain, "_FRESH_S", 0.0)
    answers = [True]
    drain = NodeDrain(lambda: answers.pop(), lambda: {})
    assert await drain.is_draining()
    assert await drain.is_draining(), "the second query raises IndexError"
