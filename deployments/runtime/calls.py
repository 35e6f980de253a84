"""One bounded, retried call from a deployment to another: the only way in which stages talk.

Ray Serve neither bounds nor retries an accepted request. Here a full stage slows the caller down and never fails it,
what is no verdict of the stage costs one more try (`deployments.runtime.outcomes`), and a verdict arrives as the error
that was raised.

How long the work itself may take is kept by the replica that does it (`deployments.runtime.replica`), so that waiting
for a busy stage does not count. A call whose replica died is sent again to run *alone*: whatever killed the replica, if
it was this call, kills nobody else's work a second time.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from ray.exceptions import RayError
from ray.serve.exceptions import RayServeException
from ray.serve.handle import DeploymentResponse, DeploymentResponseGenerator

from config import JobConfig
from deployments.runtime.outcomes import CallOutcome, classify, unwrap
from errors import LipwrightError, ReplicaLostError, StageTimeoutError, UnavailableError, internal_error
from telemetry import metrics
from telemetry.log_context import CallContext

logger = logging.getLogger(__name__)

Request = DeploymentResponse[Any] | DeploymentResponseGenerator[Any]
"""What a handle returns: Serve types it as either, and `call_stage` awaits the unary one."""
Sent = Request | tuple[Request, ...]
"""One request, or a chain of them: each takes the result of the one before, and the last gives the result."""

_FIRST_WAIT_S, _MAX_WAIT_S = 0.05, 2.0
_MAX_LATE = 2  # a second try, in case that the machine was at fault; a third would only cost another replica


@dataclass(frozen=True)
class CallBounds:
    """Bounds of one call.

    Attributes:
        work_s: Wall clock of the work itself, as its replica keeps it.
        max_attempts: Tries that may be lost, with a dead replica or by a defect.
        max_wait_s: Wall clock for finding room, all tries together.
    """

    work_s: float
    max_attempts: int
    max_wait_s: float

    @classmethod
    def of(cls, jobs: JobConfig, num_frames: int) -> CallBounds:
        """The bounds of a call about so many frames."""
        return cls(jobs.call_timeout_s(num_frames), jobs.max_attempts, jobs.max_stage_wait_s)


async def call_stage(stage: str, context: CallContext, start: Callable[[CallContext], Sent], bounds: CallBounds) -> Any:
    """Return the result of `start(context)`, which sends one request (or a chain of them) and must be repeatable.

    Args:
        stage: Name used in errors, logs and metrics.
        context: What it is done for; each try gets it with its number.
        start: Sends the request. All of a chain are cancelled together: Serve cancels no request for another's sake.
        bounds: See `CallBounds`.

    Raises:
        StageTimeoutError: The work passed its bound twice, or no room was found in time.
        ReplicaLostError: Each of `bounds.max_attempts` tries was lost, the last with its replica.
        UnavailableError: Each was lost, the last because the bucket did not answer.
        LipwrightError: Each was lost, the last by a defect (code `internal`).
        LipwrightError: Whatever else the stage raised.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + bounds.max_wait_s + bounds.max_attempts * bounds.work_s
    counts = dict.fromkeys(CallOutcome, 0)
    while True:
        attempt = 1 + counts[CallOutcome.LOST] + counts[CallOutcome.LATE]
        try:
            return await _send(stage, context._replace(attempt=attempt), start, max(0.0, deadline - loop.time()))
        except Exception as error:  # whatever it is: only `classify` tells a verdict from a lost try
            cause, outcome = unwrap(error), classify(error)
            if outcome is CallOutcome.UNAVAILABLE:
                outcome = CallOutcome.LOST  # waiting an hour for the bucket would block others
            if outcome is CallOutcome.REJECTED:
                raise cause from None
        counts[outcome] += 1
        if outcome is CallOutcome.LATE and counts[outcome] >= _MAX_LATE:
            raise StageTimeoutError(str(cause), was_retried=True) from cause
        if outcome is CallOutcome.LOST:
            logger.warning("%s: try %d of %d was lost: %r", stage, counts[outcome], bounds.max_attempts, cause)
            if counts[outcome] >= bounds.max_attempts:
                raise _last_word(stage, counts[outcome], cause) from cause
        wait_s = min(_FIRST_WAIT_S * 2 ** (sum(counts.values()) - 1), _MAX_WAIT_S)
        await asyncio.sleep(wait_s * random.uniform(0.7, 1.3))
        if loop.time() >= deadline:
            message = f"{stage}: expected room within {bounds.max_wait_s:.0f} s, found a full stage."
            raise StageTimeoutError(message, was_retried=True)


async def _send(stage: str, context: CallContext, start: Callable[[CallContext], Sent], timeout_s: float) -> Any:
    """One try. The request is cancelled when it is late or not wanted any more."""
    sent = start(context)
    requests = sent if isinstance(sent, tuple) else (sent,)
    with metrics.timed_call(stage, lambda error: classify(error).value):
        try:
            return await asyncio.wait_for(_result(requests), timeout_s)
        except asyncio.CancelledError:
            _cancel(requests)
            raise
        except TimeoutError as error:
            if isinstance(error, LipwrightError | RayError):
                raise  # the stage's own
            _cancel(requests)
            raise StageTimeoutError(f"{stage}: expected an answer within {timeout_s:.0f} s, found none.") from None


async def _result(requests: tuple[Request, ...]) -> Any:
    """The result of the last of a chain, or the error of the first that fails.

    Each is looked at: when the replica of an earlier one cannot be reached, Serve takes its error for one of the next
    replica's, and sends that request again and again without a pause and without a bound (Ray 2.60).
    """
    waiting = [asyncio.ensure_future(_awaited(request)) for request in requests]
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
            each.add_done_callback(_seen)
            each.cancel()


async def _awaited(request: Request) -> Any:
    assert isinstance(request, Awaitable)
    return await request


def _seen(request: asyncio.Future[Any]) -> None:
    if not request.cancelled():
        request.exception()  # nobody else may look at it


def _cancel(requests: tuple[Request, ...]) -> None:
    for request in requests:
        request.cancel()  # type: ignore[no-untyped-call]


def _last_word(stage: str, num_tries: int, cause: BaseException) -> LipwrightError:
    """The error of a call whose tries are all lost."""
    if isinstance(cause, UnavailableError):
        return cause
    if isinstance(cause, RayError | RayServeException):
        return ReplicaLostError(f"{stage}: the replica died in each of {num_tries} tries.", was_retried=True)
    if isinstance(cause, ReplicaLostError):
        return ReplicaLostError(f"{stage}, tried {num_tries} times: {cause}", was_retried=True)
    return internal_error(f"{stage}, tried {num_tries} times", cause)
