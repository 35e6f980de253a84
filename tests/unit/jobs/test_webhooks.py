"""Webhooks from a table to a receiver on loopback."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path

from api.v1.views import webhook_view
from config import NetworkConfig
from errors import StorageFullError
from jobs.webhooks import Callbacks
from storage.job_table import JobTable
from storage.local.webhook_secrets import webhook_secret
from storage.records import CallbackRecord, JobOptions, JobRecord, JobStatus, UploadedFile, new_id, utc_now
from storage.sqlite.database import Database
from tests.graph.receiver import receiving


class FullTable(JobTable):
    """Its disk takes no news of webhooks once it is full."""

    is_full = False

    def put_callback(self, callback: CallbackRecord) -> None:
        if self.is_full:
            raise StorageFullError("The disk of the job table is full.")
        super().put_callback(callback)


def test_a_receiver_is_not_flooded_while_the_disk_is_full(tmp_path: Path) -> None:
    table = FullTable(Database(tmp_path / "jobs.sqlite3"))
    with receiving() as receiver:
        audio = UploadedFile(key=new_id(), sha256="00", num_bytes=3, label="a.wav")
        job = table.insert_job(
            JobRecord(
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
        callbacks = Callbacks(network, table, lambda owner: webhook_secret(tmp_path, owner), webhook_view)

        async def look_three_times() -> None:
            with suppress(TimeoutError):
                await asyncio.wait_for(callbacks.run(), 4.5)

        asyncio.run(look_three_times())
        assert len(receiver.wait(1, 1)) == 1
    table.close()
