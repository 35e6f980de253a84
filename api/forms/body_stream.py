"""The bytes of a body as they come: not too slowly, and no more of them than there is room for."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass

from fastapi import Request

from config import MediaLimits
from errors import MediaLimitError, StageTimeoutError
from jobs.admission import Admission, AdmitRequest
from jobs.ports import JobService

_WORD_S = 10.0  # a body that comes slowly says so often enough that its place is kept


@dataclass
class UploadPace:
    """How long may be waited for the next bytes of a body: patience that waiting uses up and bytes give back.

    Over any time the body has to bring `min_bytes_per_s`, `max_pause_s` of it not counted. Time that the service takes
    itself, to write what has come, is not charged.

    Args:
        min_bytes_per_s: The slowest rate.
        max_pause_s: The whole of the patience, which is there at the start.
    """

    min_bytes_per_s: float
    max_pause_s: float
    left_s: float = 0.0

    def __post_init__(self) -> None:
        self.left_s = self.max_pause_s

    @classmethod
    def of(cls, limits: MediaLimits) -> UploadPace:
        """The pace that the settings ask for."""
        return cls(limits.min_upload_bytes_per_s, limits.max_upload_pause_s)

    def count(self, num_bytes: int, waited_s: float) -> None:
        """Take note of bytes and of how long they were waited for."""
        earned_s = num_bytes / self.min_bytes_per_s
        self.left_s = min(self.max_pause_s, self.left_s - waited_s + earned_s)


class BodyGrant:
    """The room that a body has, enlarged in the Director as the body comes."""

    def __init__(self, service: JobService, admission: Admission) -> None:
        self._service = service
        self._place_id = admission.id
        self._granted_bytes = admission.granted_bytes
        self._num_bytes = 0
        self._told_at = time.monotonic()

    async def widen(self, query: AdmitRequest) -> Admission:
        """Ask for a place for what is still to be fetched, beside what has come.

        Raises:
            CapacityError: There is no room for more bytes.
            StorageFullError: The disk would not hold them.
        """
        wide = await self._service.widen(query, self._place_id)
        self._granted_bytes = wide.granted_bytes
        return wide

    async def count(self, num_bytes: int) -> None:
        """Take so many bytes more, if there is room.

        Raises:
            CapacityError: There is none in the queue.
            StorageFullError: There is none on the disk.
        """
        self._num_bytes += num_bytes
        if self._num_bytes > self._granted_bytes or time.monotonic() > self._told_at + _WORD_S:
            self._granted_bytes = await self._service.extend(self._place_id, self._num_bytes)
            self._told_at = time.monotonic()


class ByteLimit:
    """The room of a body that is read and not kept: a bound, of which nobody has to be told."""

    def __init__(self, max_bytes: int) -> None:
        self._left = max_bytes

    async def count(self, num_bytes: int) -> None:
        """Take so many bytes more.

        Raises:
            MediaLimitError: There are more than the bound.
        """
        self._left -= num_bytes
        if self._left < 0:
            raise MediaLimitError("The body is longer than it may be.")


class BodyStream:
    """The pieces of a request's body; iterate once.

    Args:
        request: Whose body it is.
        pace: How slowly it may come.
        grant: The room that it has.
    """

    def __init__(self, request: Request, pace: UploadPace, grant: BodyGrant | ByteLimit) -> None:
        self.content_type = request.headers.get("content-type", "")
        self._stream = request.stream()
        self._pace = pace
        self._grant = grant

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Each piece once it is here.

        Raises:
            StageTimeoutError: It comes too slowly.
            CapacityError: There is no room for more of it.
            StorageFullError: The disk would not hold it.
            ClientDisconnect: The client is gone.
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
                f"The upload is too slow: expected {pace.min_bytes_per_s:.0f} bytes a second, with pauses of at most "
                f"{pace.max_pause_s:.0f} s, found less."
            ) from None
        pace.count(len(piece or b""), time.monotonic() - started)
        return piece
