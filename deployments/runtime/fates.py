"""What an error of a call means: the one table of Ray's, Serve's and our own errors.

Only a `LipwrightError` is a verdict, on the input or on the settings. Whatever else a replica raises, Ray's errors and
defects alike, says nothing about the work: the try is lost, and the work is tried again.
"""

from __future__ import annotations

import asyncio
from enum import Enum

from ray.exceptions import RayTaskError
from ray.serve.exceptions import BackPressureError

from errors import CapacityError, LipwrightError, StageTimeoutError


class Fate(Enum):
    """How a call ended; the values are labels of metrics."""

    ANSWERED = "error"
    """With the stage's own verdict: another try would give the same."""
    FULL = "full"
    """There was no room."""
    LATE = "timeout"
    """The work passed its bound."""
    LOST = "lost"
    """With its replica, its node, an object, or by a defect."""
    CANCELLED = "cancelled"
    """Nobody waits for it any more."""


def fate_of(error: BaseException) -> Fate:
    """Return what `error` means for the call that raised it."""
    cause = unwrapped(error)
    if cause is error and isinstance(error, asyncio.CancelledError):
        return Fate.CANCELLED
    if isinstance(cause, BackPressureError | CapacityError):
        return Fate.FULL
    if isinstance(cause, StageTimeoutError):
        # A stage that waited for another one in vain has tried again itself; a third and fourth try help nobody.
        return Fate.ANSWERED if cause.was_tried_again else Fate.LATE
    if isinstance(cause, LipwrightError):
        return Fate.ANSWERED
    return Fate.LATE if type(cause) is TimeoutError else Fate.LOST


def unwrapped(error: BaseException) -> BaseException:
    """Return the error that a stage raised, without Ray's wrapper."""
    while isinstance(error, RayTaskError) and isinstance(error.cause, BaseException):
        error = error.cause
    return error
