"""Admission control for request bodies: acquired before a body is read, released if the request fails."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from contextvars import Context

from fastapi import Request

from api.forms.uploads import drain
from errors import BusyError, LipwrightError, StageTimeoutError
from jobs.admission import Admission, AdmitRequest
from jobs.ports import JobService

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
        self._releases: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def acquire(self, request: Request, query: AdmitRequest) -> AsyncIterator[Admission]:
        """Acquire an admission for the body of `request`; released if the block fails.

        Raises:
            CapacityError: The queue is full.
            StorageFullError: The disk has too little space.
            InProgressError: Another request with the same idempotency key is in progress.
        """
        try:
            admission = await self._service.admit(query)
        except LipwrightError:
            await drain(request)
            raise
        try:
            yield admission
        except BaseException:
            # In a separate task and context: a disconnect cancels the request, and Serve cancels all calls made in its
            # context. The admission must be released anyway.
            release = asyncio.get_running_loop().create_task(self._release(admission), context=Context())
            self._releases.add(release)
            release.add_done_callback(self._releases.discard)
            raise

    async def _release(self, admission: Admission) -> None:
        with contextlib.suppress(LipwrightError):  # otherwise the admission expires
            await self._service.release(admission.id)


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
