"""Calls between deployments, with timeouts and retries.

Ray Serve neither limits nor retries an accepted request. Here a full stage delays the caller and never fails it, a
lost call is retried (`classify` defines "lost"), and an error about the input is raised as it is.

The replica that does the work enforces the timeout of the work (`deployments.runtime.replica`), so waiting for a busy
stage does not count. A call whose replica died is retried *exclusively*: if this call killed the replica, it cannot
take other calls with it a second time.

A `LipwrightError` is not retried here: the request itself is bad, or its caller decides when to retry (`BusyError`,
`StorageFullError`). Any other exception, from Ray or from a bug, says nothing about the request: the attempt is lost
and is retried.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any, TypeVar

from ray.exceptions import OutOfDiskError, RayError, RayTaskError
from ray.serve.exceptions import BackPressureError, RayServeException
from ray.serve.handle import DeploymentResponse, DeploymentResponseGenerator

from lipwright.config import JobConfig
from lipwright.errors import (
    BusyError,
    CapacityError,
    LipwrightError,
    ReplicaLostError,
    StageTimeoutError,
    StorageFullError,
    UnavailableError,
    internal_error,
)
from lipwright.jobs.model.compute import received
from lipwright.storage.local.folder import storage_error
from lipwright.telemetry import metrics
from lipwright.telemetry.log_context import CallContext, call_context, current_trace
from lipwright.telemetry.tracing import span


class CallOutcome(Enum):
    """How a call ended; the values are labels of metrics."""

    REJECTED = "error"
    """The stage rejected the request; a retry would give the same result."""
    FULL = "full"
    """The stage is at capacity."""
    UNAVAILABLE = "unavailable"
    """The database, the bucket or the leader did not answer."""
    LATE = "timeout"
    """The work timed out."""
    LOST = "lost"
    """The replica, its node or an object was lost, or an unexpected exception was raised."""
    CANCELLED = "cancelled"
    """The caller was cancelled."""


def classify(error: BaseException) -> CallOutcome:
    """Return what `error` means for the call that raised it."""
    cause = unwrap(error)
    if cause is error and isinstance(error, asyncio.CancelledError):
        return CallOutcome.CANCELLED
    if isinstance(cause, BackPressureError | CapacityError) and not isinstance(cause, BusyError):
        return CallOutcome.FULL
    if isinstance(cause, UnavailableError):
        return CallOutcome.UNAVAILABLE
    if isinstance(cause, StageTimeoutError):
        # A stage that waited for another stage has retried already; more attempts would not help.
        return CallOutcome.REJECTED if cause.was_retried else CallOutcome.LATE
    if isinstance(cause, ReplicaLostError) and not cause.was_retried:
        return CallOutcome.LOST  # its decoder was killed
    if isinstance(cause, LipwrightError):
        return CallOutcome.REJECTED
    return CallOutcome.LATE if type(cause) is TimeoutError else CallOutcome.LOST


def unwrap(error: BaseException) -> BaseException:
    """Return the error that a stage raised, without Ray's wrapper; StorageFullError if a disk was full or read-only."""
    while isinstance(error, RayTaskError) and isinstance(error.cause, BaseException):
        error = error.cause
    if isinstance(error, OutOfDiskError):
        return StorageFullError("The disk is full.")
    return storage_error(error) or error


def to_lipwright_error(cause: BaseException, outcome: CallOutcome, timeout_s: float) -> BaseException:
    """Return the error that the API sees: our own errors as they are, and Ray's errors translated."""
    if isinstance(cause, LipwrightError) or outcome is CallOutcome.CANCELLED:
        return cause
    if isinstance(cause, BackPressureError):
        return CapacityError("The service has too many requests at once.", cause.retry_after_s or 1.0)
    if outcome is CallOutcome.LATE:
        return StageTimeoutError(f"The service did not answer within {timeout_s:.0f} s.")
    if isinstance(cause, RayError | RayServeException):
        return ReplicaLostError("The service is restarting; the request was not answered.")
    return cause


logger = logging.getLogger(__name__)

T = TypeVar("T")

Request = DeploymentResponse[T] | DeploymentResponseGenerator[T]
"""The result of a handle call. Serve types it as either; `call_stage` awaits the unary one."""
Sent = Request[T] | tuple[Request[Any], ...]
"""One request, or a chain: each takes the result of the previous one, and the last one returns the result."""

_FIRST_WAIT_S, _MAX_WAIT_S = 0.05, 2.0
_MAX_STAGE_WAIT_S = 3600.0
_MAX_LATE = 2  # retry once, in case the machine was at fault; a third attempt would only cost another replica


@dataclass(frozen=True)
class CallBounds:
    """Limits of one call.

    Attributes:
        work_s: Timeout of the work itself, enforced by its replica.
        max_attempts: Attempts that may be lost, with a dead replica or by an unexpected exception.
        max_wait_s: Timeout of waiting for a replica that accepts the call, all attempts together.
    """

    work_s: float
    max_attempts: int
    max_wait_s: float

    @classmethod
    def of(cls, jobs: JobConfig, num_frames: int) -> CallBounds:
        """Return the limits of a call about this number of frames."""
        return cls(jobs.call_timeout_s(num_frames), jobs.max_attempts, _MAX_STAGE_WAIT_S)


async def call_stage(
    stage: str, context: CallContext, start: Callable[[CallContext], Sent[T]], bounds: CallBounds
) -> T:
    """Return the result of `start(context)`, which sends one request (or a chain of them) and must be repeatable.

    Each attempt gets `context` with its number and its position in the current trace. All requests of a chain are
    cancelled together, which Serve does not do. `stage` is the name in errors, logs, metrics and traces.

    Raises:
        StageTimeoutError: The work timed out twice, or no replica accepted the call in time.
        ReplicaLostError: All `bounds.max_attempts` attempts were lost, the last one with its replica.
        UnavailableError: All attempts were lost, the last one because the bucket did not answer.
        LipwrightError: All attempts were lost, the last one by an unexpected exception (code `internal`).
        LipwrightError: Any other error that the stage raised on purpose.
    """
    with call_context(context._replace(trace=current_trace())), span(stage):
        return await _call_until_done(stage, context, start, bounds)


async def _call_until_done(
    stage: str, context: CallContext, start: Callable[[CallContext], Sent[T]], bounds: CallBounds
) -> T:
    loop = asyncio.get_running_loop()
    deadline = loop.time() + bounds.max_wait_s + bounds.max_attempts * bounds.work_s
    counts = dict.fromkeys(CallOutcome, 0)
    while True:
        attempt = 1 + counts[CallOutcome.LOST] + counts[CallOutcome.LATE]
        try:
            return await _send(stage, context._replace(attempt=attempt), start, max(0.0, deadline - loop.time()))
        except Exception as error:  # `classify` decides whether to retry
            cause, outcome = unwrap(error), classify(error)
            if outcome is CallOutcome.UNAVAILABLE:
                outcome = CallOutcome.LOST  # waiting an hour for the bucket would block others
            if outcome is CallOutcome.REJECTED:
                raise cause from None
        counts[outcome] += 1
        if outcome is CallOutcome.LATE and counts[outcome] >= _MAX_LATE:
            raise StageTimeoutError(str(cause), was_retried=True) from cause
        if outcome is CallOutcome.LOST:
            logger.warning("%s: attempt %d of %d was lost: %r", stage, counts[outcome], bounds.max_attempts, cause)
            if counts[outcome] >= bounds.max_attempts:
                raise _final_error(stage, counts[outcome], cause) from cause
        wait_s = min(_FIRST_WAIT_S * 2 ** (sum(counts.values()) - 1), _MAX_WAIT_S)
        await asyncio.sleep(wait_s * random.uniform(0.7, 1.3))
        if loop.time() >= deadline:
            message = f"{stage}: no replica accepted the call within {bounds.max_wait_s:.0f} s."
            raise StageTimeoutError(message, was_retried=True)


async def _send(stage: str, context: CallContext, start: Callable[[CallContext], Sent[T]], timeout_s: float) -> T:
    """Make one attempt; cancel the request on timeout and when the caller is cancelled."""
    with metrics.timed_call(stage, context.attempt, lambda error: classify(error).value):
        sent = start(context._replace(trace=current_trace()))
        requests = sent if isinstance(sent, tuple) else (sent,)
        try:
            async with asyncio.timeout(timeout_s):
                answer: T = received(await _result(requests))
                return answer
        except asyncio.CancelledError:
            _cancel(requests)
            raise
        except TimeoutError as error:
            if isinstance(error, LipwrightError | RayError):
                raise  # raised by the stage
            _cancel(requests)
            raise StageTimeoutError(f"{stage}: no answer within {timeout_s:.0f} s.") from None


async def _result(requests: tuple[Request[Any], ...]) -> Any:
    """Return the result of the last request of a chain, or raise the error of the first that fails.

    All requests are awaited: when the replica of an earlier one cannot be reached, Serve takes its error for one of the
    next replica, and resends that request forever without a pause (Ray 2.60).
    """
    waiting = [asyncio.ensure_future(_await_response(request)) for request in requests]
    last, pending = waiting[-1], set(waiting)
    try:
        while not last.done():
            done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
            if not last.done() and any(each.exception() for each in done):
                _cancel(requests)
                return next(each for each in done if each.exception()).result()
        return last.result()
    finally:
        for each in waiting:
            each.add_done_callback(_retrieve_error)
            each.cancel()
        if len(requests) > 1:
            # The router waits for an argument of a chained call with a callback that refers to itself and to the
            # reference, which keeps the object in the store. Python's next full collection may be minutes away. Serve
            # excludes everything that a replica has loaded at start, so this one takes a few milliseconds.
            gc.collect()


async def _await_response(request: Request[Any]) -> Any:
    assert isinstance(request, Awaitable)
    return await request


def _retrieve_error(request: asyncio.Future[Any]) -> None:
    if not request.cancelled():
        request.exception()  # or asyncio logs that it was never retrieved


def _cancel(requests: tuple[Request[Any], ...]) -> None:
    for request in requests:
        request.cancel()  # type: ignore[no-untyped-call]


def _final_error(stage: str, num_attempts: int, cause: BaseException) -> LipwrightError:
    """Return the error of a call whose attempts were all lost."""
    if isinstance(cause, UnavailableError):
        return cause
    if isinstance(cause, RayError | RayServeException):
        return ReplicaLostError(f"{stage}: the replica died in each of {num_attempts} attempts.", was_retried=True)
    if isinstance(cause, ReplicaLostError):
        return ReplicaLostError(f"{stage}, {num_attempts} attempts: {cause}", was_retried=True)
    return internal_error(f"{stage}, {num_attempts} attempts", cause)
