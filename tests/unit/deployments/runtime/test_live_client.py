"""Admission of live sessions: a client that leaves, or an answer that comes late, costs no slot."""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from typing import Any

import pytest

from deployments.runtime.calls import CallBounds
from deployments.runtime.live_client import LiveClient
from deployments.runtime.node_drain import NodeDrain
from lipwright.config import LiveConfig, PipelineConfig
from lipwright.errors import StageTimeoutError
from lipwright.jobs.model.compute import ComputeTime, Metered
from lipwright.jobs.model.usage import LiveUsage
from lipwright.rendering.live_admission import LiveAdmission
from lipwright.telemetry.log_context import CallContext


class Director:
    """Takes the reports of live sessions."""

    def __init__(self) -> None:
        self.open: set[str] = set()

    async def report_live(self, usage: LiveUsage) -> None:
        (self.open.discard if usage.is_over else self.open.add)(usage.session_id)


class Response:
    """A unary response: awaitable and cancellable, which does not stop the replica."""

    def __init__(self, answer: asyncio.Future[Any]) -> None:
        self._answer = answer

    def __await__(self) -> Generator[Any, None, Any]:
        return (yield from asyncio.shield(self._answer).__await__())

    def cancel(self) -> None:
        pass


class Broadcast:
    """What a broadcast to the replicas returns."""

    async def results_async(self, timeout_s: float, return_exceptions: bool) -> list[bool]:
        return [True]


class Replica:
    """The handle of LiveSession, with one replica that has one slot."""

    def __init__(self) -> None:
        self.admission = LiveAdmission(LiveConfig(max_sessions=1))
        self.answers: asyncio.Event = asyncio.Event()
        self.is_late = False
        self.received = asyncio.Event()
        self.tasks: list[asyncio.Task[Any]] = []

    def options(self, session_id: str) -> Replica:
        return self

    @property
    def admit(self) -> Any:
        return self

    def remote(self, context: CallContext, session_id: str, owner: str | None) -> Response:
        self.tasks.append(asyncio.create_task(self._admit(session_id, owner)))
        return Response(self.tasks[-1])

    async def _admit(self, session_id: str, owner: str | None) -> Metered[bool]:
        if not self.is_late:
            self.admission.admit(session_id, owner)
        self.received.set()
        await self.answers.wait()
        if self.is_late:
            self.admission.admit(session_id, owner)
        return Metered(True, ComputeTime(0.0, 0.0))

    def broadcast(self, method: str, context: CallContext, session_id: str) -> Broadcast:
        assert method == "leave"
        self.admission.leave(session_id)
        return Broadcast()


@pytest.fixture
async def replica() -> Replica:
    return Replica()


@pytest.fixture
async def director() -> Director:
    return Director()


@pytest.fixture
async def client(replica: Replica, director: Director) -> LiveClient:
    fakes: tuple[Any, Any] = director, replica
    return LiveClient(*fakes, PipelineConfig(), NodeDrain(lambda: False, dict))


@pytest.mark.parametrize("is_late", [False, True])
async def test_admit_cancelled_frees_its_slot(
    client: LiveClient, replica: Replica, director: Director, is_late: bool
) -> None:
    replica.is_late = is_late
    first = asyncio.create_task(client.admit("first", None))
    await replica.received.wait()
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    replica.answers.set()
    await asyncio.wait(replica.tasks)
    replica.is_late = False
    await client.admit("second", None)
    assert replica.admission.num_sessions == 1
    assert director.open == {"second"}


async def test_admit_without_an_answer_frees_its_slot(
    client: LiveClient, replica: Replica, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "_brief", CallBounds(0.01, 1, 0.01))
    with pytest.raises(StageTimeoutError):
        await client.admit("first", None)
    replica.answers.set()
    await client.admit("second", None)
    assert replica.admission.num_sessions == 1
