"""Calls between stages: bounded, retried where a replica died, and with the stage's own error."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator
from typing import Any

import pytest
from ray.exceptions import ActorDiedError, RayTaskError
from ray.serve.exceptions import BackPressureError

from deployments.calls import CallBounds, call_stage
from errors import MediaError, ReplicaLostError, StageTimeoutError


class Response:
    """What a handle returns: awaitable and cancellable."""

    def __init__(self, outcome: Callable[[], Any] | None) -> None:
        """`outcome` returns or raises; None never ends."""
        self._outcome = outcome
        self.cancelled = False

    def __await__(self) -> Generator[Any, None, Any]:
        """Wait as a request does."""
        if self._outcome is None:
            yield from asyncio.sleep(60).__await__()
        yield from asyncio.sleep(0).__await__()
        assert self._outcome is not None
        return self._outcome()

    def cancel(self) -> None:
        """Note the cancellation."""
        self.cancelled = True


def raising(error: BaseException) -> Callable[[], Any]:
    def outcome() -> Any:
        raise error

    return outcome


def call(outcomes: list[Callable[[], Any] | None], bounds: CallBounds) -> tuple[Any, list[Response]]:
    sent: list[Response] = []

    def start() -> Any:
        sent.append(Response(outcomes[min(len(sent), len(outcomes) - 1)]))
        return sent[-1]

    return asyncio.run(call_stage("Stage", start, bounds)), sent


def test_a_dead_replica_costs_one_more_try() -> None:
    result, sent = call([raising(ActorDiedError()), lambda: 7], CallBounds(5.0, 3))
    assert result == 7
    assert len(sent) == 2


def test_tries_are_bounded() -> None:
    with pytest.raises(ReplicaLostError, match="Stage.*3 tries"):
        call([raising(ActorDiedError())], CallBounds(5.0, 3))


def test_a_full_stage_slows_down_and_does_not_fail() -> None:
    full = raising(BackPressureError(num_queued_requests=1, max_queued_requests=1))
    result, sent = call([full, full, full, full, lambda: "done"], CallBounds(10.0, 1))
    assert result == "done"
    assert len(sent) == 5


def test_a_hung_stage_ends_in_time_and_is_cancelled() -> None:
    sent: list[Response] = []

    def start() -> Any:
        sent.append(Response(None))
        return sent[-1]

    with pytest.raises(StageTimeoutError, match="Stage"):
        asyncio.run(call_stage("Stage", start, CallBounds(0.1, 3)))
    assert sent[0].cancelled


def test_cancelling_the_caller_cancels_the_request() -> None:
    sent: list[Response] = []

    def start() -> Any:
        sent.append(Response(None))
        return sent[-1]

    async def cancel_soon() -> None:
        task = asyncio.create_task(call_stage("Stage", start, CallBounds(30.0, 3)))
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancel_soon())
    assert sent[0].cancelled


def test_the_error_of_the_stage_arrives_as_itself() -> None:
    cause = MediaError("clip.mp4: expected a video stream, found none")
    wrapped = RayTaskError("render", "traceback", cause).as_instanceof_cause()
    with pytest.raises(MediaError, match=r"clip\.mp4") as caught:
        call([raising(wrapped)], CallBounds(5.0, 3))
    assert type(caught.value) is MediaError
