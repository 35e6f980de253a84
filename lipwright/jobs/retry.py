"""Bounded retry of work in the Director: after an unexpected exception, and while the disk is full."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator
from typing import Final, TypeVar

from lipwright.config import JobConfig
from lipwright.errors import LipwrightError, StorageFullError, internal_error
from lipwright.storage.local.folder import storage_error

T = TypeVar("T")

logger = logging.getLogger(__name__)

_PAUSE_S: Final = 0.5
_FIRST_DISK_PAUSE_S: Final = 1.0
_MAX_DISK_PAUSE_S: Final = 15.0  # longest delay of a job after space was freed


async def retry(work: Callable[[], Awaitable[T]], limits: JobConfig) -> T:
    """Return the result of `work()`, which continues where an earlier attempt ended.

    Raises:
        StorageFullError: The disk was full for `max_disk_wait_s`, in all pauses together.
        LipwrightError: Raised by `work`, or `internal` after `max_attempts` unexpected exceptions.
    """
    num_left = limits.max_attempts
    disk_pauses = _disk_pauses(limits.max_disk_wait_s)
    while True:
        try:
            return await work()
        except Exception as error:
            cause = _cause(error)
            if isinstance(cause, StorageFullError) and not cause.was_retried:
                pause_s = next(disk_pauses, None)
                if pause_s is None:
                    raise _still_full(cause, limits.max_disk_wait_s) from error
                logger.warning("waiting for disk space; next attempt in %.0f s: %s", pause_s, cause)
            elif isinstance(cause, LipwrightError):
                raise cause from None
            else:
                pause_s, num_left = _PAUSE_S, num_left - 1
                logger.exception("unexpected error, %d retries left", num_left, exc_info=error)
                if not num_left:
                    raise internal_error(f"failed {limits.max_attempts} times", cause) from error
        await asyncio.sleep(pause_s)


def first_leaf_error(error: BaseException) -> BaseException:
    """Return the first error inside the exception groups that parallel segments raise."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _cause(error: BaseException) -> BaseException:
    cause = first_leaf_error(error)
    return storage_error(cause) or cause


def _disk_pauses(total_s: float) -> Iterator[float]:
    """Yield pauses that double up to `_MAX_DISK_PAUSE_S` and add up to `total_s`."""
    pause_s = _FIRST_DISK_PAUSE_S
    while total_s > 0:
        yield min(pause_s, total_s)
        total_s -= pause_s
        pause_s = min(2 * pause_s, _MAX_DISK_PAUSE_S)


def _still_full(error: StorageFullError, waited_s: float) -> StorageFullError:
    return StorageFullError(
        f"{error} Waited {waited_s:.0f} s for space (limit: jobs.max_disk_wait_s). Free disk space, then submit again.",
        was_retried=True,
    )
