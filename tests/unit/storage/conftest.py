"""The places where files and rows are kept: each test that asks for one of these fixtures runs on all of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lipwright.config import BucketConfig, PipelineConfig
from lipwright.storage.file_store import FileStore
from lipwright.storage.files import StoredFiles
from lipwright.storage.job_table import JobTable
from lipwright.storage.postgres.database import Database as SharedDatabase
from lipwright.storage.protocols import Database
from lipwright.storage.sqlite.database import Database as FileDatabase
from lipwright.storage.state import open_files

Again = Callable[[], Database]
"""Opens the same database again; it is closed after the test."""


@pytest.fixture(params=["sqlite", "postgres"])
def again(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Again]:
    url = request.getfixturevalue("postgres").new_database() if request.param == "postgres" else None
    opened: list[Database] = []

    def open_again() -> Database:
        opened.append(FileDatabase(tmp_path / "jobs.sqlite3") if url is None else SharedDatabase(url))
        return opened[-1]

    yield open_again
    for database in opened:
        database.close()


@pytest.fixture
def table(again: Again) -> JobTable:
    return JobTable(again())


@pytest.fixture(params=["folder", "bucket"])
def stored(request: pytest.FixtureRequest, tmp_path: Path) -> StoredFiles:
    if request.param == "folder":
        return open_files(PipelineConfig(data_dir=tmp_path / "data"))
    bucket = request.getfixturevalue("s3").new_bucket()
    return open_files(
        PipelineConfig(data_dir=tmp_path / "data", files=bucket, bucket=BucketConfig(cache_dir=tmp_path / "cache"))
    )


@pytest.fixture
def store(stored: StoredFiles, tmp_path: Path) -> FileStore:
    return FileStore(tmp_path / "data", stored)
