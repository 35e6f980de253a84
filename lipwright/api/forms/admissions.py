"""Admission control for request bodies: acquired before a body is read, released if the request fails."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from contextvars import Context
from typing import Any, TypeVar

from lipwright.errors import BusyError, LipwrightError, StageTimeoutError
from lipwright.jobs.admission import Admission, AdmitRequest
from lipwright.jobs.ports import JobService

T = TypeVar("T")

_RETRY_AFTER_S = 5.0


class CallerSlots:
    """A number of slots for each API key, in one Ingress replica.

    Args:
        max_per_caller: Slots per key; all callers without a key count as one.
    """

    def __init__(self, max_per_caller: int) -> None:
        self._max_per_caller = max_per_caller
        self._num_taken: Counter[str | None] = Counter()

    @contextmanager
    def take(self, owner: str | None) -> Iterator[None]:
        """Take a slot for the block.

        Raises:
            BusyError: All slots of the owner are taken.
        """
        if self._num_taken[owner] >= self._max_per_caller:
            raise BusyError(
                f"Too many requests that repeat an idempotency key: at most {self._max_per_caller} at a time are "
                "compared for an API key.",
                _RETRY_AFTER_S,
            )
        self._num_taken[owner] += 1
        try:
            yield
        finally:
            self._num_taken[owner] -= 1
            if not self._num_taken[owner]:
                del self._num_taken[owner]


class Admissions:
    """Acquires admissions from a service that may be full."""

    def __init__(self, service: JobService) -> None:
        self._service = service
        self._tasks: set[asyncio.Task[Any]] = set()

    @asynccontextmanager
    async def acquire(self, query: AdmitRequest) -> AsyncIterator[Admission]:
        """Acquire an admission for the body of a request; released if the block fails.

        Raises:
            CapacityError: The queue is full.
            StorageFullError: The disk has too little space.
            InProgressError: Another request with the same idempotency key is in progress.
        """
        # Admitting and releasing run in tasks and contexts of their own: a disconnect cancels the request, and Serve
        # cancels all calls made in its context. What was reserved must be released anyway.
        admitting = self._start(self._service.admit(query))
        try:
            yield await asyncio.shield(admitting)
        except BaseException:
            self._start(self._release(admitting))
            raise

    def _start(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        task = asyncio.get_running_loop().create_task(work, context=Context())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _release(self, admitting: asyncio.Task[Admission]) -> None:
        with contextlib.suppress(LipwrightError):  # nothing was reserved, or it expires
            await self._service.release((await admitting).id)


@asynccontextmanager
async def upload_timeout(timeout_s: float) -> AsyncIterator[None]:
    """Limit the time of the block, in which a body is received.

    Raises:
        StageTimeoutError: The body took longer.
    """
    try:
        async with asyncio.timeout(timeout_s):
            yield
    except TimeoutError as error:
        if isinstance(error, LipwrightError):
            raise
        raise StageTimeoutError(f"The upload timed out after {timeout_s:.0f} s, the limit for its size.") from None
