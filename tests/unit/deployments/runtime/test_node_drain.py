"""Whether a node is being drained, and whether another one has taken over its API."""

from __future__ import annotations

import asyncio

import pytest

from deployments.runtime import node_drain
from deployments.runtime.node_drain import NodeDrain
from jobs.requests import ReplicaStatus


def ingress(num_running: int) -> dict[str, ReplicaStatus]:
    return {"Ingress": ReplicaStatus(num_running=num_running, num_other=1, is_healthy=True)}


@pytest.mark.parametrize(
    ("is_draining", "num_running", "moves"), [(False, 1, False), (True, 0, False), (True, 1, True)]
)
async def test_has_successor_needs_drain_and_running_replica(is_draining: bool, num_running: int, moves: bool) -> None:
    drain = NodeDrain(lambda: is_draining, lambda: ingress(num_running))
    assert await drain.is_draining() == is_draining
    assert await drain.has_successor() == moves


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
