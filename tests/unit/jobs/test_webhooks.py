"""Webhooks from a table to a receiver on loopback."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from api.v1.protocol import webhook_view
from config import NetworkConfig
from errors import StorageFullError
from jobs.model.base import new_id, utc_now
from jobs.model.record import CallbackRecord, JobRecord, JobStatus
from jobs.webhooks import Webhooks, _is_due
from storage.job_table import JobTable
from storage.key_ring import webhook_secret
from storage.sqlite.database import Database
from tests.graph.receiver import receiving
from tests.ports import quiet_port
from tests.unit.job_records import job_record
from tests.waiting import until


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


@asynccontextmanager
async def _delivering(folder: Path) -> AsyncIterator[FullTable]:
    """The table of a Director that delivers webhooks."""
    table = FullTable(Database(folder / "jobs.sqlite3"))
    network = NetworkConfig(allowed_networks=("127.0.0.0/8",))
    webhooks = Webhooks(network, table, lambda owner: webhook_secret(folder, owner), webhook_view)
    running = asyncio.create_task(webhooks.run())
    try:
        yield table
    finally:
        tasks = [running, *webhooks._in_flight.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        table.close()


def _cancelled_job(table: JobTable, callback_url: str) -> JobRecord:
    job = table.insert_job(job_record(callback_url=callback_url))
    table.update_job(job.id, status=JobStatus.CANCELLED)
    return job


async def test_webhooks_on_a_full_disk_do_not_flood_the_receiver(tmp_path: Path) -> None:
    with receiving() as receiver:
        async with _delivering(tmp_path) as table:
            _cancelled_job(table, receiver.url)
            table.is_full = True
            await until(lambda: receiver.hooks)
            told_at = table.num_looks
            await until(lambda: table.num_looks >= told_at + 2)
        assert len(receiver.hooks) == 1


async def test_pending_webhook_is_delivered_after_a_restart(tmp_path: Path) -> None:
    port = quiet_port()
    async with _delivering(tmp_path) as table:
        job = _cancelled_job(table, f"http://127.0.0.1:{port}/later")
        await until(lambda: any(each.attempts for each in table.pending_callbacks(9)))  # nobody listens there
    with receiving(port) as receiver:
        async with _delivering(tmp_path) as table:
            await until(lambda: receiver.hooks and not table.pending_callbacks(9))
        (hook,) = receiver.hooks
    assert (hook.event["type"], hook.event["data"]["id"]) == ("job.cancelled", job.id)
    assert hook.is_signed_with(webhook_secret(tmp_path, None))


@pytest.mark.parametrize(
    ("attempts", "left_s", "is_due"), [(1, -1, True), (1, 5, False), (1, 3600, True), (4, 3600, False)]
)
def test_a_webhook_is_not_delayed_by_a_clock_that_was_set_back(attempts: int, left_s: float, is_due: bool) -> None:
    next_at = utc_now() + timedelta(seconds=left_s)
    assert _is_due(CallbackRecord(job_id=new_id(), attempts=attempts, next_at=next_at)) == is_due
