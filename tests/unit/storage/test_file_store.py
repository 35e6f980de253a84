"""The files of uploads, jobs and avatars, in a folder and in a bucket: our names only, whole files or none."""

from __future__ import annotations

import errno
import hashlib
import os
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from errors import MediaError, NotFoundError, StorageFullError, StoredFileError
from jobs.model.base import new_id
from storage import file_store
from storage.file_keys import (
    avatar_folder,
    job_file_key,
    job_folder,
    result_key,
    segment_key,
    segments_folder,
    source_key,
    speech_key,
    upload_key,
)
from storage.file_store import FileStore
from storage.job_table import JobTable
from storage.local.folder import disk_errors, write_atomic
from storage.sqlite.database import Database
from storage.uploads import clean_label


def _upload(store: FileStore, content: bytes = b"abc") -> str:
    writer = store.new_upload("clip.mp4")
    writer.write(memoryview(content)[:1])
    writer.write(content[1:])
    upload = writer.finish()
    assert (upload.sha256, upload.num_bytes) == (hashlib.sha256(content).hexdigest(), len(content))
    return upload.key


def _read(store: FileStore, key: str) -> bytes:
    with store.stored.fetched(key) as path:
        return path.read_bytes()


def test_upload_is_taken_once(store: FileStore) -> None:
    key, job_id = _upload(store), new_id()
    store.take_upload(key, job_file_key(job_id))
    assert _read(store, job_file_key(job_id)) == b"abc"
    assert not store.has(upload_key(key))
    store.delete_upload(key)
    store.take_upload(key, job_file_key(job_id))
    assert _read(store, job_file_key(job_id)) == b"abc", "after a crash it is taken again"
    assert store.find_upload(key, job_file_key(job_id)) == job_file_key(job_id)
    with pytest.raises(NotFoundError):
        store.take_upload(key, job_file_key(new_id()))


def test_discarded_upload_is_gone(store: FileStore, tmp_path: Path) -> None:
    writer = store.new_upload("clip.mp4")
    writer.write(b"abc")
    writer.discard()
    writer.discard()
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
    assert store.stored.entries("uploads") == {}


@pytest.mark.parametrize("name", ["", "..", "../jobs", "a/b", "/etc/passwd", "0" * 31, "0" * 32 + "\n", "G" * 32])
@pytest.mark.parametrize("key", [upload_key, job_file_key, result_key, segments_folder, avatar_folder, source_key])
def test_foreign_names_are_refused(key: Callable[[str], str], name: str) -> None:
    with pytest.raises(NotFoundError):
        key(name)


def test_delete_segments_and_delete_job_remove_only_theirs(store: FileStore) -> None:
    job_id = new_id()
    store.stored.make_folder(segments_folder(job_id))
    for key in (segment_key(job_id, 3), speech_key(job_id), result_key(job_id)):
        store.stored.put(key, b"one")
    assert store.job_ids() == [job_id]
    assert store.job_ids(min_age_s=60) == []
    store.delete_segments(job_id)
    assert set(store.stored.entries(job_folder(job_id))) == {"result.mp4"}
    store.delete_job(job_id)
    store.delete_job(job_id)
    assert not store.has(result_key(job_id)) and store.job_ids() == []


def test_job_ids_with_foreign_folder_ignores_it(tmp_path: Path) -> None:
    store = FileStore(tmp_path)
    (tmp_path / "jobs" / "lost+found").mkdir()
    assert store.job_ids() == []


def test_a_file_is_replaced_as_a_whole(tmp_path: Path) -> None:
    path = write_atomic(tmp_path / "f", b"one")
    assert write_atomic(path, b"two") == path
    with pytest.raises(TypeError):
        write_atomic(path, "text")  # type: ignore[arg-type]
    assert [item.read_bytes() for item in tmp_path.iterdir()] == [b"two"]


def test_disk_errors_of_a_full_disk_is_storage_full() -> None:
    with pytest.raises(StorageFullError), disk_errors(), Path("/dev/full").open("wb", buffering=0) as full:
        full.write(b"x")
    with pytest.raises(FileNotFoundError), disk_errors():
        Path("/nowhere/at/all").read_bytes()


def test_sweep_uploads_keeps_recent_uploads(store: FileStore, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = _upload(store), _upload(store)
    assert store.sweep_uploads(min_age_s=3600) == 0
    time.sleep(2.1)  # a bucket knows seconds
    now = time.time()
    monkeypatch.setattr(file_store, "time", SimpleNamespace(time=lambda: now))  # however long the next lines take
    store.touch_upload(second)
    assert store.sweep_uploads(min_age_s=1.5) == 1
    assert not store.has(upload_key(first)) and store.has(upload_key(second))
    store.delete_upload(second)
    assert store.stored.entries("uploads") == {}


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("../../etc/passwd", "passwd"),
        ("C:\\clips\\été 1.mp4", "été 1.mp4"),
        ("<b>\r\nx\x00.mp4", "_b_x_.mp4"),
        ("...", ""),
        ("x" * 500 + ".mp4", "x" * 116 + ".mp4"),
    ],
)
def test_clean_label_has_only_safe_characters(name: str, label: str) -> None:
    assert clean_label(name) == label


def test_files_are_readable_by_the_owner_only(tmp_path: Path) -> None:
    umask = os.umask(0o022)
    try:
        (tmp_path / "data" / "uploads").mkdir(parents=True)  # as an older version made it
        (tmp_path / "data" / "uploads").chmod(0o755)
        (tmp_path / "data").chmod(0o755)
        store = FileStore(tmp_path / "data")
        new = FileStore(tmp_path / "new")
        JobTable(Database(new.table_path)).close()
        key = _upload(store)
    finally:
        os.umask(umask)
    names = ("uploads", "jobs", "avatars")
    folders = [store.root, store.root / "uploads", new.root, *(new.root / name for name in names)]
    assert {folder.stat().st_mode & 0o777 for folder in folders} == {0o700}
    assert {path.stat().st_mode & 0o777 for path in (store.root / upload_key(key), new.table_path)} == {0o600}


def test_explain_input_error_tells_bad_input_from_lost_file(store: FileStore) -> None:
    key, sha256 = job_file_key(new_id()), hashlib.sha256(b"abc").hexdigest()
    store.take_upload(_upload(store), key)
    verdict, defect = MediaError("audio: expected sound, found none."), StorageFullError("full")
    store.check_size(key, 3)
    assert store.explain_input_error(verdict, key, sha256) is verdict
    store.stored.put(key, b"abd")
    assert store.explain_input_error(defect, key, sha256) is defect
    for _ in range(2):
        lost = store.explain_input_error(verdict, key, sha256)
        assert isinstance(lost, StoredFileError) and str(store.root) not in str(lost)
        store.stored.remove(key)
    with pytest.raises(StoredFileError, match=r"^audio: expected the 3 bytes that were stored, found no file\.$"):
        store.check_size(key, 3)


def test_new_upload_on_read_only_disk_is_storage_full(store: FileStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(name: str, flags: int) -> int:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr("storage.uploads.open_private", refuse)
    with pytest.raises(StorageFullError, match="read-only"):
        store.new_upload("clip.mp4")
