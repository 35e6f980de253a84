"""The cache of one machine, by several processes: fetched once, bounded, and nothing goes while it is used."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from errors import StoredFileError
from jobs.model.base import new_id
from storage.s3.cache import CacheBounds, FileCache
from storage.s3.cache_entries import open_entry

NAME = new_id()
KEY = f"jobs/{NAME}/result.mp4"
_LONG_AGO_S = 7200.0

_FETCHER = """
import sys, time
from pathlib import Path
from storage.s3.cache_entries import open_entry
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


def cache_of(folder: Path, max_bytes: int = 10_000, max_idle_s: float = 3600.0) -> FileCache:
    return FileCache(folder, CacheBounds(max_bytes, max_idle_s))


def kept(folder: Path) -> set[str]:
    return {path.name for path in folder.glob("files/*/*")}


def age(folder: Path, name: str, seconds: float) -> None:
    (path,) = folder.glob(f"files/*/{name}")
    os.utime(path.parent, (time.time() - seconds,) * 2)


def test_processes_of_one_machine_fetch_a_file_once(tmp_path: Path, repo_root: Path) -> None:
    log = tmp_path / "log"
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", _FETCHER, str(tmp_path / "entry"), str(log)],
            cwd=repo_root,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        for _ in range(3)
    ]
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


def test_what_is_in_use_stays_beyond_the_bound(tmp_path: Path) -> None:
    cache, fetch = cache_of(tmp_path, max_bytes=1500), Bucket()
    used = cache.file(f"jobs/{NAME}/used", "tag", fetch)
    age(tmp_path, "used", _LONG_AGO_S)
    cache.file(f"jobs/{NAME}/new", "tag", fetch).close()
    cache.sweep()
    assert kept(tmp_path) == {"used", "new"} or kept(tmp_path) == {"used"}
    assert used.path.stat().st_size == 1000
    used.close()
    age(tmp_path, "used", _LONG_AGO_S)
    cache.sweep()
    assert "used" not in kept(tmp_path)


def test_what_nobody_uses_goes_with_time(tmp_path: Path) -> None:
    cache = cache_of(tmp_path, max_idle_s=60.0)
    for name in ("old", "young"):
        cache.file(f"jobs/{NAME}/{name}", "tag", Bucket()).close()
    age(tmp_path, "old", 61)
    cache.sweep()
    assert kept(tmp_path) == {"young"}


def test_another_content_is_another_entry(tmp_path: Path) -> None:
    cache, fetch = cache_of(tmp_path), Bucket()
    old = cache.file(KEY, "one", fetch)
    new = cache.file(KEY, "two", fetch)
    assert fetch.num_fetched == 2 and old.path != new.path and old.path.name == new.path.name == "result.mp4"


def test_what_never_changes_is_found_without_asking(tmp_path: Path) -> None:
    cache, key = cache_of(tmp_path), f"avatars/{NAME}/source"
    assert cache.constant(key) is None
    cache.file(key, "tag", Bucket()).close()
    cache.file(KEY, "tag", Bucket()).close()
    found = cache.constant(key)
    assert found is not None and found.path.name == "source"
    assert cache.constant(KEY) is None, "a result may be made again"
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
