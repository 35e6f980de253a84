"""Admissions of bodies: kept before a body is read, and given back when it comes to nothing."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from contextvars import Context

from fastapi import Request

from api.forms.uploads import drain
from errors import LipwrightError, StageTimeoutError
from jobs.admission import Admission, AdmitRequest
from jobs.ports import JobService


class Admissions:
    """Asks a service that may be full."""

    def __init__(self, service: JobService) -> None:
        self._service = service
        self._returning: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def acquire(self, request: Request, query: AdmitRequest) -> AsyncIterator[Admission]:
        """Keep a place for the body of `request`; it is given back when the block fails.

        Raises:
            CapacityError: The service is full.
            StorageFullError: The disk would not hold it.
            InProgressError: Another body with the same idempotency key is on its way.
        """
        try:
            admission = await self._service.admit(query)
        except LipwrightError:
            await drain(request)
            raise
        try:
            yield admission
        except BaseException:
            # Not in this request, nor in its context: a client that is gone cancels it, and Serve with it whatever was
            # sent for it. Its place must not stay.
            returning = asyncio.get_running_loop().create_task(self._give_back(admission), context=Context())
            self._returning.add(returning)
            returning.add_done_callback(self._returning.discard)
            raise

    async def _give_back(self, admission: Admission) -> None:
        with contextlib.suppress(LipwrightError):  # a place that cannot be given back runs out by itself
            await self._service.release(admission.id)


@asynccontextmanager
async def upload_timeout(timeout_s: float) -> AsyncIterator[None]:
    """Bound the block, in which a body arrives.

    Raises:
        StageTimeoutError: It took longer.
    """
    try:
        async with asyncio.timeout(timeout_s):
            yield
    except TimeoutError as error:
        if isinstance(error, LipwrightError):
            raise
        raise StageTimeoutError(f"The upload was not here within the {timeout_s:.0f} s that its size allows.") from None
