"""A bucket behind a real server, and the cache of one machine: fetched once, bounded, kept while it is used."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from lipwright.config import BucketConfig, PipelineConfig
from lipwright.errors import ConfigError, StorageUnreachableError, StoredFileError
from lipwright.jobs.model.base import new_id
from lipwright.storage.file_store import FileStore
from lipwright.storage.files import StoredFiles
from lipwright.storage.s3.cache import CacheBounds, FileCache
from lipwright.storage.s3.cache_entries import open_entry
from lipwright.storage.state import check_files_access, open_files
from tests.ports import quiet_port
from tests.s3_server import S3Server

NAME = new_id()
KEY = f"jobs/{NAME}/result.mp4"
_LONG_AGO_S = 7200.0

_FETCHER = """
import sys, time
from pathlib import Path
from lipwright.storage.s3.cache_entries import open_entry
def fetch(path):
    with open(sys.argv[2], "a") as log:
        log.write("fetched\\n")
    time.sleep(0.5)
    path.write_bytes(b"film")
entry = open_entry(Path(sys.argv[1]), "source", fetch, 30.0)
assert entry.path.read_bytes() == b"film"
print("here", flush=True)
sys.stdin.read()
"""


class Bucket:
    """Fetches of this many bytes, counted."""

    def __init__(self, num_bytes: int = 1000) -> None:
        self.num_bytes, self.num_fetched = num_bytes, 0

    def __call__(self, path: Path) -> None:
        self.num_fetched += 1
        path.write_bytes(bytes(self.num_bytes))


def cache_of(folder: Path, max_bytes: int = 10_000) -> FileCache:
    return FileCache(folder, CacheBounds(max_bytes, 3600.0))


def kept(folder: Path) -> set[str]:
    return {path.name for path in folder.glob("files/*/*")}


def age(folder: Path, name: str, seconds: float) -> None:
    (path,) = folder.glob(f"files/*/{name}")
    os.utime(path.parent, (time.time() - seconds,) * 2)


def test_processes_of_one_machine_fetch_a_file_once(tmp_path: Path, repo_root: Path) -> None:
    log = tmp_path / "log"
    command, pipe = [sys.executable, "-c", _FETCHER, str(tmp_path / "entry"), str(log)], subprocess.PIPE
    processes = [subprocess.Popen(command, cwd=repo_root, stdin=pipe, stdout=pipe) for _ in range(3)]
    try:
        for process in processes:
            assert process.stdout is not None and process.stdout.readline() == b"here\n"
        assert log.read_text() == "fetched\n"
        folder = cache_of(tmp_path)
        (tmp_path / "entry").rename(tmp_path / "files" / "entry")
        os.utime(tmp_path / "files" / "entry", (0, 0))
        folder.sweep()
        assert kept(tmp_path) == {"source"}, "what another process uses stays, whatever its age"
    finally:
        for process in processes:
            process.kill()
            process.wait(20)
    folder.sweep()
    assert kept(tmp_path) == set(), "a lock goes with its process"


def test_what_was_used_last_stays_within_the_bound(tmp_path: Path) -> None:
    cache, fetch = cache_of(tmp_path, max_bytes=3500), Bucket()
    for number in range(3):
        cache.file(f"jobs/{NAME}/{number}", "tag", fetch).close()
        age(tmp_path, str(number), 100 - number)
    cache.file(f"jobs/{NAME}/0", "tag", fetch).close()
    assert fetch.num_fetched == 3, "it was here"
    cache.file(f"jobs/{NAME}/3", "tag", fetch).close()
    assert kept(tmp_path) == {"0", "2", "3"}
    used = cache.file(f"jobs/{NAME}/0", "tag", fetch)
    for name in ("0", "2"):
        age(tmp_path, name, _LONG_AGO_S)
    cache.sweep()
    assert kept(tmp_path) == {"0", "3"}, "what nobody uses goes with time"
    cache = cache_of(tmp_path, max_bytes=500)
    cache.sweep()
    assert kept(tmp_path) == {"0"} and used.path.stat().st_size == 1000, "what is in use stays beyond the bound"
    used.close()
    cache.sweep()
    assert kept(tmp_path) == set()


def test_what_never_changes_is_found_without_asking(tmp_path: Path) -> None:
    cache, key = cache_of(tmp_path), f"avatars/{NAME}/source"
    assert cache.constant(key) is None
    cache.file(key, "tag", Bucket()).close()
    cache.file(KEY, "tag", Bucket()).close()
    found = cache.constant(key)
    assert found is not None and found.path.name == "source"
    assert cache.constant(KEY) is None, "a result may be made again"
    fetch = Bucket()
    old, new = cache.file(KEY, "one", fetch), cache.file(KEY, "two", fetch)
    assert fetch.num_fetched == 2 and old.path != new.path and old.path.name == new.path.name == "result.mp4"
    found.close()
    age(tmp_path, "source", _LONG_AGO_S)
    cache.sweep()
    assert cache.constant(key) is None


def test_a_folder_is_made_of_files_and_fetches_what_is_missing(tmp_path: Path) -> None:
    cache, fetch = cache_of(tmp_path), Bucket(10)

    def files(*names: str) -> dict[str, tuple[str, str, Callable[[Path], None]]]:
        return {name: (f"avatars/{NAME}/{name}", "tag", fetch) for name in names}

    first = cache.folder(files("track.npz", "engines/a/bank.npz"))
    assert sorted(path.name for path in first.path.rglob("*.npz")) == ["bank.npz", "track.npz"]
    second = cache.folder(files("track.npz", "engines/b/bank.npz"))
    assert fetch.num_fetched == 3, "the track is here"
    again = cache.folder(files("track.npz", "engines/a/bank.npz"))
    assert again.path == first.path and second.path != first.path


def test_a_fetch_that_fails_leaves_nothing_and_is_made_again(tmp_path: Path) -> None:
    cache = cache_of(tmp_path)

    def fails(path: Path) -> None:
        path.write_bytes(b"half")
        raise StoredFileError("gone")

    with pytest.raises(StoredFileError):
        cache.file(KEY, "tag", fails)
    assert kept(tmp_path) == set()
    assert cache.file(KEY, "tag", Bucket(7)).path.stat().st_size == 7


def test_what_a_dead_process_began_goes(tmp_path: Path) -> None:
    cache = cache_of(tmp_path)
    folder = tmp_path / "entry"
    folder.mkdir()
    (folder / ".half").write_bytes(b"half")
    entry = open_entry(folder, "source", Bucket(3), 5.0)
    assert [path.name for path in folder.iterdir()] == ["source"]
    entry.close()
    left = tmp_path / "parts" / new_id()
    left.write_bytes(b"an upload that nobody ends")
    os.utime(left, (0, 0))
    cache.sweep()
    assert not left.exists()


SOURCE = f"avatars/{NAME}/source"


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


def test_fetched_file_is_whole_after_short_writes(
    s3: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, pwrite = s3.new_bucket(), os.pwrite
    content = os.urandom(100_000)
    with machine(tmp_path / "first", url).written(KEY) as part:
        part.write_bytes(content)
    monkeypatch.setattr(os, "pwrite", lambda file, piece, start: pwrite(file, piece[:33_000], start))
    with machine(tmp_path / "second", url).fetched(KEY) as path:
        assert path.read_bytes() == content


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


def test_impossible_bucket_configs_are_refused(tmp_path: Path) -> None:
    for url in ("s3://", "s3://name:secret@bucket/x", "s3://bucket/x?secret_access_key=secret"):
        with pytest.raises(ConfigError, match="expected s3://bucket/prefix"):
            machine(tmp_path, url)
    with pytest.raises(ValueError, match="max_upload_bytes"):
        PipelineConfig.model_validate({"files": "s3://b", "limits": {"max_upload_bytes": 6 * 1024**3}})
    with pytest.raises(ValueError, match="files"):
        PipelineConfig.model_validate({"files": "gs://b"})
