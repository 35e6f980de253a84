"""Classifies the errors of calls: Ray's, Serve's and ours.

A `LipwrightError` is not retried here: the request itself is bad, or its caller decides when to retry (`BusyError`,
`StorageFullError`). Any other exception, from Ray or from a bug, says nothing about the request: the attempt is lost
and is retried.
"""

from __future__ import annotations

import asyncio
from enum import Enum

from ray.exceptions import OutOfDiskError, RayError, RayTaskError
from ray.serve.exceptions import BackPressureError, RayServeException

from errors import (
    BusyError,
    CapacityError,
    LipwrightError,
    ReplicaLostError,
    StageTimeoutError,
    StorageFullError,
    UnavailableError,
)
from storage.local.disk import storage_error


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
