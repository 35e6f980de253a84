"""What housekeeping removes, and what it leaves alone."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from config import PipelineConfig
from jobs.housekeeping import Housekeeping
from jobs.presenters import Presenters
from storage.job_table import JobTable
from storage.local.file_store import FileStore
from storage.records import AvatarRecord, new_id, utc_now
from storage.sqlite.database import Database
from tests.unit.jobs.no_stages import NoStages

CONFIG = PipelineConfig()


@pytest.fixture
def files(tmp_path: Path) -> FileStore:
    return FileStore(tmp_path)


@pytest.fixture
def table(files: FileStore) -> Iterator[JobTable]:
    table = JobTable(Database(files.table_path))
    yield table
    table.close()


def test_folders_of_no_presenter_go(files: FileStore, table: JobTable) -> None:
    known, orphan, arriving = (new_id() for _ in range(3))
    for key in (known, orphan, arriving):
        (files.avatar_dir(key) / "source").write_bytes(b"film")
    for key in (known, orphan):
        os.utime(files.avatar_dir(key), (time.time() - 7200,) * 2)
    now = utc_now()
    table.put_avatar(AvatarRecord(key=known, id=new_id(), source_sha256="00", created_at=now, last_used_at=now))
    stages = NoStages()
    presenters = Presenters(CONFIG, stages, table, files)

    async def look_once() -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(Housekeeping(CONFIG.jobs, table, files, presenters).run(), 1.0)

    asyncio.run(look_once())
    assert sorted(files.avatar_keys()) == sorted([known, arriving])
