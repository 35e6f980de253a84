"""The file store on a real folder: our names only, whole files or none."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from errors import MediaError, NotFoundError, StorageFullError, StoredFileError
from storage.job_table import JobTable
from storage.local.file_store import FileStore, clean_label, disk_errors, write_atomic
from storage.records import new_id
from storage.sqlite.database import Database


@pytest.fixture
def store(tmp_path: Path) -> FileStore:
    return FileStore(tmp_path / "data")


def _upload(store: FileStore, content: bytes = b"abc") -> str:
    writer = store.new_upload("clip.mp4")
    writer.write(memoryview(content)[:1])
    writer.write(content[1:])
    upload = writer.finish()
    assert (upload.sha256, upload.num_bytes) == (hashlib.sha256(content).hexdigest(), len(content))
    return upload.key


def test_upload_is_taken_once(store: FileStore) -> None:
    key, job_id = _upload(store), new_id()
    assert store.take_upload(key, store.audio_path(job_id)).read_bytes() == b"abc"
    with pytest.raises(NotFoundError):
        store.upload_path(key)
    store.delete_upload(key)
    assert store.take_upload(key, store.audio_path(job_id)).read_bytes() == b"abc", "after a crash it is taken again"
    with pytest.raises(NotFoundError):
        store.take_upload(key, store.audio_path(new_id()))


def test_discarded_upload_is_gone(store: FileStore, tmp_path: Path) -> None:
    writer = store.new_upload("clip.mp4")
    writer.write(b"abc")
    writer.discard()
    writer.discard()
    assert list((tmp_path / "data" / "uploads").iterdir()) == []


@pytest.mark.parametrize("name", ["", "..", "../jobs", "a/b", "/etc/passwd", "0" * 31, "0" * 32 + "\n", "G" * 32])
@pytest.mark.parametrize(
    "method",
    [
        FileStore.upload_path,
        FileStore.delete_upload,
        FileStore.job_dir,
        FileStore.result_path,
        FileStore.delete_job,
        FileStore.avatar_dir,
        FileStore.delete_avatar,
    ],
)
def test_foreign_names_are_refused(store: FileStore, method: Callable[[FileStore, str], object], name: str) -> None:
    with pytest.raises(NotFoundError):
        method(store, name)


def test_job_files(store: FileStore) -> None:
    job_id = new_id()
    store.job_dir(job_id)
    path = write_atomic(store.segment_path(job_id, 3), b"one")
    assert write_atomic(path, b"two") == path
    assert path.read_bytes() == b"two"
    assert [item.name for item in path.parent.iterdir()] == ["000003.mp4"]
    store.speech_path(job_id).write_bytes(b"x")
    store.result_path(job_id).write_bytes(b"x")
    store.delete_segments(job_id)
    assert [item.name for item in store.job_dir(job_id).iterdir() if item.is_file()] == ["result.mp4"]
    store.delete_job(job_id)
    store.delete_job(job_id)
    assert not store.result_path(job_id).exists()


def test_folders_of_jobs_by_age(store: FileStore, tmp_path: Path) -> None:
    job_id = new_id()
    store.job_dir(job_id)
    store.segment_path(job_id, 0).write_bytes(b"one")
    (tmp_path / "data" / "jobs" / "lost+found").mkdir()
    assert store.job_ids() == [job_id] and store.has_segments(job_id)
    assert store.job_ids(min_age_s=60) == []
    store.delete_segments(job_id)
    assert not store.has_segments(job_id)


def test_a_full_disk_is_said_by_name() -> None:
    with pytest.raises(StorageFullError), disk_errors(), Path("/dev/full").open("wb", buffering=0) as full:
        full.write(b"x")
    with pytest.raises(FileNotFoundError), disk_errors():
        Path("/nowhere/at/all").read_bytes()


def test_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = write_atomic(tmp_path / "f", b"old")
    with pytest.raises(TypeError):
        write_atomic(path, "text")  # type: ignore[arg-type]
    assert [item.read_bytes() for item in tmp_path.iterdir()] == [b"old"]


def test_sweep_spares_the_young(store: FileStore) -> None:
    old, young = _upload(store), _upload(store)
    long_ago = time.time() - 7200
    os.utime(store.upload_path(old), (long_ago, long_ago))
    assert store.sweep_uploads(min_age_s=3600) == 1
    assert store.upload_path(young).exists()
    with pytest.raises(NotFoundError):
        store.upload_path(old)


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("../../etc/passwd", "passwd"),
        ("C:\\clips\\été 1.mp4", "été 1.mp4"),
        ("<b>\r\nx\x00.mp4", "_b_x_.mp4"),
        ("...", ""),
    ],
)
def test_labels_are_harmless(name: str, label: str) -> None:
    assert clean_label(name) == label


def test_long_label_keeps_its_ending() -> None:
    label = clean_label("x" * 500 + ".mp4")
    assert len(label) == 120 and label.endswith("x.mp4")


def test_nobody_else_reads_what_callers_send(tmp_path: Path) -> None:
    umask = os.umask(0o022)
    try:
        (tmp_path / "data" / "uploads").mkdir(parents=True)  # as an older version made it
        (tmp_path / "data" / "uploads").chmod(0o755)
        store = FileStore(tmp_path / "data")
        new = FileStore(tmp_path / "new")
        JobTable(Database(new.table_path)).close()
        key = _upload(store)
    finally:
        os.umask(umask)
    folders = [new.root, *(new.root / name for name in ("uploads", "jobs", "avatars")), store.root / "uploads"]
    assert {folder.stat().st_mode & 0o777 for folder in folders} == {0o700}
    assert {path.stat().st_mode & 0o777 for path in (store.upload_path(key), new.table_path)} == {0o600}


def test_a_caller_is_blamed_for_what_came_and_not_for_what_was_lost(store: FileStore) -> None:
    job_id, sha256 = new_id(), hashlib.sha256(b"abc").hexdigest()
    path = store.take_upload(_upload(store), store.audio_path(job_id))
    verdict, defect = MediaError("audio: expected sound, found none."), StorageFullError("full")
    store.check_size(path, 3)
    assert store.blamed(verdict, path, sha256) is verdict
    path.write_bytes(b"abd")
    assert store.blamed(defect, path, sha256) is defect
    for _ in range(2):
        lost = store.blamed(verdict, path, sha256)
        assert isinstance(lost, StoredFileError) and str(store.root) not in str(lost)
        path.unlink(missing_ok=True)
    with pytest.raises(StoredFileError, match=r"^audio: expected the 3 bytes that were kept, found that it is gone\.$"):
        store.check_size(path, 3)
