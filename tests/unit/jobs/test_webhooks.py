"""Webhooks from a table to a receiver on loopback."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from api.v1.protocol import webhook_view
from config import NetworkConfig
from errors import StorageFullError
from jobs.model.files import UploadedFile, new_id, utc_now
from jobs.model.plan import JobOptions
from jobs.model.record import CallbackRecord, JobStatus
from jobs.webhooks import Webhooks, _is_due
from storage.job_table import JobTable
from storage.sqlite.database import Database
from storage.webhook_secrets import webhook_secret
from tests.graph.receiver import receiving
from tests.unit.job_records import job_record


class FullTable(JobTable):
    """Its disk takes no news of webhooks once it is full."""

    is_full = False
    num_looks = 0

    def pending_callbacks(self, limit: int) -> list[CallbackRecord]:
        self.num_looks += 1
        return super().pending_callbacks(limit)

    def put_callback(self, callback: CallbackRecord) -> None:
        if self.is_full:
            raise StorageFullError("The disk of the job table is full.")
        super().put_callback(callback)


async def test_a_receiver_is_not_flooded_while_the_disk_is_full(tmp_path: Path) -> None:
    table = FullTable(Database(tmp_path / "jobs.sqlite3"))
    with receiving() as receiver:
        audio = UploadedFile(key=new_id(), sha256="00", num_bytes=3, label="a.wav")
        job = table.insert_job(
            job_record(
                id=new_id(),
                options=JobOptions(engine="warp"),
                audio=audio,
                avatar_key="0" * 32,
                callback_url=f"{receiver.url}/hook",
                created_at=utc_now(),
            )
        )
        table.update_job(job.id, status=JobStatus.CANCELLED)
        table.is_full = True
        network = NetworkConfig(allowed_networks=("127.0.0.0/8",))
        callbacks = Webhooks(network, table, lambda owner: webhook_secret(tmp_path, owner), webhook_view)

        async def until(is_so: Callable[[], bool]) -> None:
            deadline = time.monotonic() + 60
            while not is_so():
                assert time.monotonic() < deadline
                await asyncio.sleep(0.05)

        async def look_twice_more() -> None:
            looking = asyncio.create_task(callbacks.run())
            await until(lambda: bool(receiver.hooks))
            told_at = table.num_looks
            await until(lambda: table.num_looks >= told_at + 2)
            looking.cancel()
            await asyncio.gather(looking, return_exceptions=True)

        await look_twice_more()
        assert len(receiver.hooks) == 1
    table.close()


@pytest.mark.parametrize(
    ("attempts", "left_s", "is_due"), [(1, -1, True), (1, 5, False), (1, 3600, True), (4, 3600, False)]
)
def test_a_webhook_is_not_delayed_by_a_clock_that_was_set_back(attempts: int, left_s: float, is_due: bool) -> None:
    next_at = utc_now() + timedelta(seconds=left_s)
    assert _is_due(CallbackRecord(job_id=new_id(), attempts=attempts, next_at=next_at)) == is_due
