"""How the Director learns which replicas run, from a controller that answers, is silent, or is gone."""

from __future__ import annotations

import asyncio
import threading

from ray.exceptions import RayActorError

from deployments.runtime.replica_watch import ReplicaWatch
from jobs.status import ReplicaStatus

SEEN = {"Studio": ReplicaStatus(num_running=1, num_other=0, is_healthy=True)}


async def test_a_silent_controller_is_asked_one_question() -> None:
    questions: list[str] = []
    answer = threading.Event()

    def ask() -> dict[str, ReplicaStatus]:
        questions.append(threading.current_thread().name)
        answer.wait(30)
        return SEEN

    watch = ReplicaWatch(ask)
    first = await asyncio.gather(*(watch.read() for _ in range(20)))
    assert first == [{}] * 20, "nothing was known before"
    later = asyncio.create_task(watch.read())
    await asyncio.sleep(0.1)
    assert len(questions) == 1
    answer.set()
    # Where this process stands still for as long as the controller is waited for, the next call gets the news.
    assert await later == SEEN or await watch.read() == SEEN


async def test_a_controller_that_is_gone_fails_no_request() -> None:
    def ask() -> dict[str, ReplicaStatus]:
        raise RayActorError()

    assert await ReplicaWatch(ask).read() == {}
