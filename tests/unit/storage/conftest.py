"""The places where files are kept: each test that asks for `stored` or `store` runs on all of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from config import BucketConfig, PipelineConfig
from storage.file_store import FileStore
from storage.files import StoredFiles
from storage.state import open_files


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
