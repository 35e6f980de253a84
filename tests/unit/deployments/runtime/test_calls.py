"""Calls between stages: bounded, retried where a replica died, and with the stage's own error."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable, Generator
from typing import Any
from unittest.mock import Mock

import pytest
from ray import exceptions
from ray.serve.exceptions import BackPressureError, RayServeException

from deployments.runtime.calls import CallBounds, CallOutcome, call_stage, classify
from lipwright.errors import (
    CapacityError,
    LipwrightError,
    MediaError,
    ReplicaLostError,
    StageTimeoutError,
    StorageFullError,
    StorageUnreachableError,
)
from lipwright.jobs.model.compute import ComputeTime, Metered, metered
from lipwright.telemetry.log_context import CallContext

DIED = "Stage: the replica died in each of 3 attempts"
UPSTREAM_DIED = RayServeException("Request to deployment 'Studio' failed because an upstream actor died")


class Response:
    """What a handle returns: awaitable and cancellable."""

    def __init__(self, outcome: Callable[[], Any] | None) -> None:
        """`outcome` returns or raises; None never ends."""
        self._outcome = outcome
        self.cancelled = False

    def __await__(self) -> Generator[Any, None, Any]:
        if self._outcome is None:
            yield from asyncio.sleep(60).__await__()
        yield from asyncio.sleep(0).__await__()
        assert self._outcome is not None
        return self._outcome()

    def cancel(self) -> None:
        self.cancelled = True


def raising(error: BaseException) -> Callable[[], Any]:
    return Mock(side_effect=error)


WORK = CallContext("job")


def bounds(max_attempts: int = 3, work_s: float = 60.0, max_wait_s: float = 60.0) -> CallBounds:
    return CallBounds(work_s, max_attempts, max_wait_s)


def call(outcomes: list[Callable[[], Any] | None], limits: CallBounds) -> tuple[Any, list[int]]:
    """The result, and the attempt number that each request got."""
    tries: list[int] = []

    def start(context: CallContext) -> Any:
        tries.append(context.attempt)
        return Response(outcomes[min(len(tries), len(outcomes)) - 1])

    return asyncio.run(call_stage("Stage", WORK, start, limits)), tries


def wrapped(cause: Exception) -> Callable[[], Any]:
    return raising(exceptions.RayTaskError("render", "traceback", cause).as_instanceof_cause())


async def test_call_stage_adds_compute_time_to_the_meter() -> None:
    responses: list[Any] = [
        Response(raising(exceptions.ActorDiedError())),
        Response(lambda: Metered(7, ComputeTime(1.5, 0.5))),
    ]
    with metered() as meter:
        assert await call_stage("Stage", WORK, lambda work: responses.pop(0), bounds()) == 7
    assert meter.take() == ComputeTime(1.5, 0.5)


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        OSError(errno.EROFS, "Read-only file system"),
        OSError(errno.EFBIG, "File too large"),
        exceptions.OutOfDiskError(),
    ],
)
async def test_call_stage_on_full_disk_raises_storage_full(error: Exception) -> None:
    start = Mock(return_value=Response(wrapped(error)))
    with pytest.raises(StorageFullError) as caught:
        await call_stage("LandmarkGenerator.track", WORK, start, bounds())
    assert caught.value.retryable and not caught.value.was_retried, "the job waits for space"
    assert start.call_count == 1


@pytest.mark.parametrize(
    ("lost", "code", "message"),
    [
        (raising(exceptions.ActorDiedError()), "replica_lost", DIED),
        (raising(exceptions.ObjectLostError("00" * 28, None, "")), "replica_lost", DIED),
        # An argument of the stage that lay on a node that died.
        (wrapped(exceptions.ObjectReconstructionFailedError("00" * 28, None, "")), "replica_lost", DIED),
        # An earlier stage of the chain, as Serve tells it in another process: without the cause.
        (raising(UPSTREAM_DIED), "replica_lost", DIED),
        (wrapped(UPSTREAM_DIED), "replica_lost", DIED),
        (wrapped(ReplicaLostError("a.mp4: its decoder was killed")), "replica_lost", "^Stage, 3 attempts: a.mp4: its"),
        (wrapped(ZeroDivisionError("float")), "internal", "Stage, 3 attempts: ZeroDivisionError: float"),
        (wrapped(StorageUnreachableError("The bucket does not answer.", 5.0)), "storage_unreachable", "The bucket"),
    ],
)
def test_lost_call_is_repeated_up_to_max_attempts(lost: Callable[[], Any], code: str, message: str) -> None:
    assert call([lost, lost, lambda: 7], bounds()) == (7, [1, 2, 3]), "the second and third time alone"
    with pytest.raises(LipwrightError, match=message) as failed:
        call([lost], bounds(3))
    assert failed.value.code == code
    # A caller of this stage does not multiply the tries.
    repeats = classify(failed.value) is not CallOutcome.REJECTED
    assert repeats == (code == "storage_unreachable")


@pytest.mark.parametrize(
    "full",
    [
        raising(BackPressureError(num_queued_requests=1, max_queued_requests=1)),
        wrapped(CapacityError("One call runs exclusively in this replica.", 1.0)),
    ],
)
def test_call_of_a_full_stage_waits_within_bounds(full: Callable[[], Any]) -> None:
    assert call([full, full, full, full, lambda: "done"], bounds(1)) == ("done", [1] * 5), "waiting is no failure"
    with pytest.raises(StageTimeoutError, match="no replica accepted"):
        call([full], bounds(1, 0.1, 0.2))


def test_work_that_is_late_twice_fails() -> None:
    late = wrapped(StageTimeoutError("FaceSynthesis: timed out after 8 s"))
    assert call([late, lambda: 7], bounds()) == (7, [1, 2])
    with pytest.raises(StageTimeoutError, match="FaceSynthesis") as failed:
        call([late], bounds(6))
    # The stage that called it is not asked again, which would double the tries.
    with pytest.raises(StageTimeoutError, match="FaceSynthesis"):
        call([wrapped(failed.value), lambda: 7], bounds(6))


async def test_a_silent_stage_ends_in_time_and_is_cancelled() -> None:
    sent: Any = Response(None)
    with pytest.raises(StageTimeoutError, match="Stage"):
        await call_stage("Stage", WORK, lambda work: sent, bounds(1, 0.1, 0.1))
    assert sent.cancelled


@pytest.mark.parametrize("num_requests", [1, 2], ids=["one", "chain"])
async def test_cancelling_the_caller_cancels_its_requests(num_requests: int) -> None:
    sent = [Response(None) for _ in range(num_requests)]
    answer: Any = sent[0] if num_requests == 1 else tuple(sent)
    task = asyncio.create_task(call_stage("Stage", WORK, lambda work: answer, bounds(3, 30.0)))
    await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert all(response.cancelled for response in sent)


async def test_an_earlier_request_of_a_chain_that_fails_ends_the_chain() -> None:
    sent: list[Response] = []

    def start(context: CallContext) -> Any:
        outcomes: list[Callable[[], Any] | None] = [lambda: 1, None, lambda: 7]
        if context.attempt == 1:  # Serve sends the last one again and again, and never says so
            outcomes = [raising(exceptions.ActorUnavailableError("gone", None)), None]
        chain = tuple(map(Response, outcomes))
        sent.extend(chain)
        return chain

    assert await call_stage("Stage", WORK, start, bounds()) == 7
    assert [response.cancelled for response in sent] == [True, True, False, False, False]


def test_the_error_of_the_stage_arrives_as_itself() -> None:
    cause = MediaError("clip.mp4: expected a video stream, found none")
    with pytest.raises(MediaError, match=r"clip\.mp4") as caught:
        call([wrapped(cause)], bounds())
    assert type(caught.value) is MediaError
