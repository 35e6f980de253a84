"""What an error of a call means: the one table of Ray's, Serve's and our own errors.

Only a `LipwrightError` is a verdict, on the input or on the settings. Whatever else a replica raises, Ray's errors and
defects alike, says nothing about the work: the try is lost, and the work is tried again.
"""

from __future__ import annotations

import asyncio
from enum import Enum

from ray.exceptions import RayTaskError
from ray.serve.exceptions import BackPressureError

from errors import CapacityError, LipwrightError, ReplicaLostError, StageTimeoutError, UnavailableError


class CallOutcome(Enum):
    """How a call ended; the values are labels of metrics."""

    REJECTED = "error"
    """With the stage's own verdict: another try would give the same."""
    FULL = "full"
    """There was no room."""
    UNAVAILABLE = "unavailable"
    """The database, the bucket or the leader did not answer."""
    LATE = "timeout"
    """The work passed its bound."""
    LOST = "lost"
    """With its replica, its node, an object, or by a defect."""
    CANCELLED = "cancelled"
    """Nobody waits for it any more."""


def classify(error: BaseException) -> CallOutcome:
    """Return what `error` means for the call that raised it."""
    cause = unwrap(error)
    if cause is error and isinstance(error, asyncio.CancelledError):
        return CallOutcome.CANCELLED
    if isinstance(cause, BackPressureError | CapacityError):
        return CallOutcome.FULL
    if isinstance(cause, UnavailableError):
        return CallOutcome.UNAVAILABLE
    if isinstance(cause, StageTimeoutError):
        # A stage that waited for another one in vain has tried again itself; a third and fourth try help nobody.
        return CallOutcome.REJECTED if cause.was_retried else CallOutcome.LATE
    if isinstance(cause, ReplicaLostError) and not cause.was_retried:
        return CallOutcome.LOST  # its decoder was killed
    if isinstance(cause, LipwrightError):
        return CallOutcome.REJECTED
    return CallOutcome.LATE if type(cause) is TimeoutError else CallOutcome.LOST


def unwrap(error: BaseException) -> BaseException:
    """Return the error that a stage raised, without Ray's wrapper."""
    while isinstance(error, RayTaskError) and isinstance(error.cause, BaseException):
        error = error.cause
    return error
