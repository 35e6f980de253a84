"""Reservations of clients that disconnect."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from fastapi import Request

from api.forms.admissions import Admissions
from jobs.admission import Admission, AdmitRequest
from tests.unit.api_server import MemoryService


class SlowService(MemoryService):
    """Admits when it is told to."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.goes_on = asyncio.Event()
        self.released: asyncio.Queue[str] = asyncio.Queue()

    async def admit(self, request: AdmitRequest) -> Admission:
        await self.goes_on.wait()
        return Admission(id="reserved", max_bytes=1, timeout_s=1.0)

    async def release(self, admission_id: str) -> None:
        self.released.put_nowait(admission_id)


async def test_acquire_cancelled_while_admitting_releases_reservation(tmp_path: Path) -> None:
    service = SlowService(tmp_path)
    admissions = Admissions(service)

    async def upload() -> None:
        async with admissions.acquire(Request({"type": "http"}), AdmitRequest(num_bytes=1, max_bytes=1)):
            raise AssertionError("the client is gone")

    uploading = asyncio.create_task(upload())
    await asyncio.sleep(0)
    uploading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await uploading
    service.goes_on.set()
    assert await asyncio.wait_for(service.released.get(), 10) == "reserved"
