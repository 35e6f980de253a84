"""Bounded retry of work in the Director that fails with an unexpected exception."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar

from errors import LipwrightError, StorageFullError, internal_error
from storage.local.disk import is_disk_full

T = TypeVar("T")

logger = logging.getLogger(__name__)

_PAUSE_S = 0.5


async def retry(work: Callable[[], Awaitable[T]], max_attempts: int) -> T:
    """Return the result of `work()`, which continues where an earlier attempt ended.

    Raises:
        StorageFullError: The disk was full.
        LipwrightError: Raised by `work`, or `internal` after `max_attempts` unexpected exceptions.
    """
    for left in reversed(range(max_attempts)):
        try:
            return await work()
        except Exception as error:
            cause = first_leaf_error(error)
            if is_disk_full(cause):
                raise StorageFullError("The disk is full.") from error
            if isinstance(cause, LipwrightError):
                raise cause from None
            logger.exception("unexpected error, %d retries left", left, exc_info=error)
            if not left:
                raise internal_error(f"failed {max_attempts} times", cause) from error
        await asyncio.sleep(_PAUSE_S)
    raise ValueError(f"Expected at least one attempt, got {max_attempts = }.")


def first_leaf_error(error: BaseException) -> BaseException:
    """Return the first error inside the exception groups that parallel segments raise."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
