"""A job table and the files of jobs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from lipwright.storage.file_store import FileStore
from lipwright.storage.job_table import JobTable
from lipwright.storage.sqlite.database import Database


@pytest.fixture
def files(tmp_path: Path) -> FileStore:
    return FileStore(tmp_path / "data")


@pytest.fixture
def table(files: FileStore) -> Iterator[JobTable]:
    table = JobTable(Database(files.table_path))
    yield table
    table.close()
