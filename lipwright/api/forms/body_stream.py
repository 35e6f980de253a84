"""Reads request bodies with a minimum rate and within their admission."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

from fastapi import Request

from lipwright.api.body_window import MinRate
from lipwright.errors import MediaLimitError, StageTimeoutError
from lipwright.jobs.admission import Admission, AdmitRequest
from lipwright.jobs.ports import JobService

_RENEW_S = 10.0  # renews the admission of slow uploads


class BodyGrant:
    """The byte allowance of a body, extended by the Director as the body arrives."""

    def __init__(self, service: JobService, admission: Admission) -> None:
        self._service = service
        self._admission_id = admission.id
        self._granted_bytes = admission.granted_bytes
        self._num_bytes = 0
        self._renewed_at = time.monotonic()

    async def grow(self, query: AdmitRequest) -> Admission:
        """Extend the admission to files that are still to be downloaded.

        Raises:
            CapacityError: The queue has no room for them.
            StorageFullError: The disk has no room for them.
        """
        wide = await self._service.grow_reservation(query, self._admission_id)
        self._granted_bytes = wide.granted_bytes
        return wide

    async def count(self, num_bytes: int) -> None:
        """Count received bytes.

        Raises:
            CapacityError: The queue has no room for more.
            StorageFullError: The disk has no room for more.
        """
        self._num_bytes += num_bytes
        if self._num_bytes > self._granted_bytes or time.monotonic() > self._renewed_at + _RENEW_S:
            self._granted_bytes = await self._service.extend(self._admission_id, self._num_bytes)
            self._renewed_at = time.monotonic()


class ByteLimit:
    """A fixed byte limit, for bodies that are read but not stored."""

    def __init__(self, max_bytes: int) -> None:
        self._left = max_bytes

    async def count(self, num_bytes: int) -> None:
        """Count received bytes.

        Raises:
            MediaLimitError: The limit is exceeded.
        """
        self._left -= num_bytes
        if self._left < 0:
            raise MediaLimitError("The request body is too large.")


class BodyStream:
    """The chunks of a request body. Iterate once.

    Args:
        request: The request.
        pace: Minimum rate.
        grant: Byte allowance.
    """

    def __init__(self, request: Request, pace: MinRate, grant: BodyGrant | ByteLimit) -> None:
        self.content_type = request.headers.get("content-type", "")
        self._stream = request.stream()
        self._pace = pace
        self._grant = grant

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Yield chunks as they arrive.

        Raises:
            StageTimeoutError: The body arrives too slowly.
            CapacityError: The queue is full.
            StorageFullError: The disk is full.
            ClientDisconnect: The client disconnected.
        """
        while (piece := await self._next()) is not None:
            await self._grant.count(len(piece))
            yield piece

    async def _next(self) -> bytes | None:
        started, pace = time.monotonic(), self._pace
        try:
            async with asyncio.timeout(max(0.0, pace.left_s)):
                piece: bytes | None = await anext(self._stream, None)
        except TimeoutError:
            raise StageTimeoutError(
                f"The upload is too slow: the minimum is {pace.min_bytes_per_s:.0f} bytes per second, with pauses of "
                f"at most {pace.max_pause_s:.0f} s."
            ) from None
        pace.count(len(piece or b""), time.monotonic() - started)
        return piece
