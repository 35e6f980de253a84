"""Work of the Director itself that meets a defect: it is tried again, within a bound, before anybody is told."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar

from errors import LipwrightError, StorageFullError, internal_error
from storage.local.disk import is_disk_full

T = TypeVar("T")

logger = logging.getLogger("ray.serve")

_PAUSE_S = 0.5


async def retry(work: Callable[[], Awaitable[T]], max_tries: int) -> T:
    """Return what `work()` returns, which takes up where an earlier try ended.

    Raises:
        StorageFullError: The disk was full.
        LipwrightError: A verdict of `work`, or `internal`: each of `max_tries` tries met a defect.
    """
    for left in reversed(range(max_tries)):
        try:
            return await work()
        except Exception as error:
            cause = first_leaf_error(error)
            if is_disk_full(cause):
                raise StorageFullError("The disk was full before the work was done.") from error
            if isinstance(cause, LipwrightError):
                raise cause from None
            logger.exception("a try met a defect, %d are left", left, exc_info=error)
            if not left:
                raise internal_error(f"tried {max_tries} times", cause) from error
        await asyncio.sleep(_PAUSE_S)
    raise ValueError(f"Expected at least one try, got {max_tries = }.")


def first_leaf_error(error: BaseException) -> BaseException:
    """Return the first real error inside the groups that parallel segments raise."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
