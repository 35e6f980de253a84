"""A bucket behind a real server: seen from two machines, asked little, gone for a while, or not ours at all."""

from __future__ import annotations

import hashlib
import time
from pathlib import Path

import httpx
import pytest

from config import BucketConfig, PipelineConfig
from errors import ConfigError, StorageUnreachableError
from jobs.model.base import new_id
from storage.file_store import FileStore
from storage.files import StoredFiles
from storage.state import check_files_access, open_files
from tests.ports import quiet_port
from tests.s3_server import S3Server

NAME = new_id()
KEY, SOURCE = f"jobs/{NAME}/result.mp4", f"avatars/{NAME}/source"


def machine(folder: Path, url: str, **bucket: bool) -> StoredFiles:
    return open_files(PipelineConfig(data_dir=folder, files=url, bucket=BucketConfig(**bucket)))


def test_file_written_by_one_machine_is_read_by_another(s3: S3Server, tmp_path: Path) -> None:
    url = s3.new_bucket()
    first, second = machine(tmp_path / "first", url), machine(tmp_path / "second", url)
    with first.written(KEY) as part:
        part.write_bytes(b"old")
    with second.fetched(KEY) as path:
        assert path.read_bytes() == b"old" and path.is_relative_to(tmp_path / "second")
        with first.written(KEY) as part:
            part.write_bytes(b"new!")
        assert path.read_bytes() == b"old", "who reads it goes on with what was there"
    with second.fetched(KEY) as path:
        assert path.read_bytes() == b"new!"


def test_source_after_written_is_fetched_locally(s3: S3Server, tmp_path: Path) -> None:
    files = machine(tmp_path, s3.new_bucket())
    with files.written(SOURCE) as part:
        part.write_bytes(b"film")
    s3.freeze()
    try:
        with files.fetched(SOURCE) as path:
            assert path.read_bytes() == b"film"
    finally:
        s3.thaw()


def test_upload_with_stored_hash_is_not_read_to_check_it(s3: S3Server, tmp_path: Path) -> None:
    url = s3.new_bucket()
    store = FileStore(tmp_path / "first", machine(tmp_path / "first", url))
    writer = store.new_upload("a.wav")
    writer.write(b"speech")
    upload = writer.finish()
    store.take_upload(upload.key, SOURCE)
    with store.stored.fetched(SOURCE) as path:
        assert path.read_bytes() == b"speech" and path.stat().st_nlink == 2, "it was here under another key"
    other = machine(tmp_path / "second", url)
    assert other.intact({SOURCE: upload.sha256})
    assert not other.intact({SOURCE: hashlib.sha256(b"another").hexdigest()})
    assert not list((tmp_path / "second").rglob("source"))


def test_a_signed_link_gives_the_file_without_credentials(s3: S3Server, tmp_path: Path) -> None:
    url = s3.new_bucket()
    files = machine(tmp_path, url, redirects=True)
    assert machine(tmp_path, url).presigned_url(KEY, "GET") is None
    files.put(KEY, b"a film")
    link = files.presigned_url(KEY, "GET")
    assert link is not None and "X-Amz-Signature=" in link and "X-Amz-Expires=300" in link
    answer = httpx.get(link, timeout=60, trust_env=False)
    assert (answer.content, answer.headers["content-type"]) == (b"a film", "video/mp4")


def test_unreachable_bucket_is_named_quickly(tmp_path: Path) -> None:
    endpoint = f"http://127.0.0.1:{quiet_port()}"
    files = machine(tmp_path, f"s3://nobody/x?endpoint={endpoint}&region=us-east-1")
    began = time.monotonic()
    with pytest.raises(StorageUnreachableError, match="bucket") as caught:
        files.find(KEY)
    assert time.monotonic() - began < 15
    assert caught.value.retry_after_s >= 1 and endpoint not in str(caught.value)


def test_check_files_access_without_bucket_fails(s3: S3Server, tmp_path: Path) -> None:
    good = s3.new_bucket()
    check_files_access(PipelineConfig(data_dir=tmp_path, files=good))
    assert machine(tmp_path, good).entries("trials") == {}
    with pytest.raises(StorageUnreachableError):
        check_files_access(PipelineConfig(data_dir=tmp_path, files=good.replace("lipwright", "nobodys", 1)))


@pytest.mark.parametrize("url", ["s3://", "s3://name:secret@bucket/x", "s3://bucket/x?secret_access_key=secret"])
def test_invalid_bucket_url_is_refused_without_its_secret(tmp_path: Path, url: str) -> None:
    with pytest.raises(ConfigError, match="expected s3://bucket/prefix"):
        machine(tmp_path, url)


def test_uploads_that_a_bucket_cannot_move_are_refused() -> None:
    with pytest.raises(ValueError, match="max_upload_bytes"):
        PipelineConfig.model_validate({"files": "s3://b", "limits": {"max_upload_bytes": 6 * 1024**3}})
    with pytest.raises(ValueError, match="files"):
        PipelineConfig.model_validate({"files": "gs://b"})
