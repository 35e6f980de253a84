"""Files and spoken texts in a folder and in a bucket behind a real server: our names only, whole files or none."""

from __future__ import annotations

import errno
import hashlib
import os
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import Mock

import pytest

from lipwright.errors import MediaError, NotFoundError, StateError, StorageFullError, StoredFileError
from lipwright.jobs.model.base import UploadedFile, new_id, utc_now
from lipwright.storage import file_store
from lipwright.storage.backgrounds import BackgroundStore
from lipwright.storage.cues import CueStore, SpokenCue
from lipwright.storage.file_keys import (
    CUES,
    avatar_folder,
    background_source_key,
    cue_key,
    cues_folder,
    job_file_key,
    job_folder,
    result_key,
    segment_key,
    segments_folder,
    source_key,
    speech_key,
    upload_key,
    voice_folder,
)
from lipwright.storage.file_store import FileStore
from lipwright.storage.files import StoredFiles
from lipwright.storage.job_table import JobTable
from lipwright.storage.local.folder import disk_errors, write_atomic, written_atomically
from lipwright.storage.sqlite.database import Database
from lipwright.storage.uploads import clean_label
from lipwright.storage.voices import VoiceRecord, VoiceStore


def _sent(store: FileStore, content: bytes = b"abc") -> UploadedFile:
    writer = store.new_upload("office.jpg")
    writer.write(memoryview(content)[:1])
    writer.write(content[1:])
    return writer.finish()


def text_of(stored: StoredFiles, key: str) -> bytes:
    with stored.fetched(key) as path:
        assert path.name == key.rpartition("/")[2]
        return path.read_bytes()


def _is_bucket(store: FileStore) -> bool:
    """Whether the times of files are in seconds."""
    return "bucket" in type(store.stored).__module__


def test_upload_is_taken_once(store: FileStore) -> None:
    sent, job_id = _sent(store), new_id()
    key = sent.key
    assert (sent.sha256, sent.num_bytes) == (hashlib.sha256(b"abc").hexdigest(), 3)
    store.take_upload(key, job_file_key(job_id))
    assert text_of(store.stored, job_file_key(job_id)) == b"abc"
    assert not store.has(upload_key(key))
    store.delete_upload(key)
    store.take_upload(key, job_file_key(job_id))
    assert text_of(store.stored, job_file_key(job_id)) == b"abc", "after a crash it is taken again"
    assert store.find_upload(key, job_file_key(job_id)) == job_file_key(job_id)
    with pytest.raises(NotFoundError):
        store.take_upload(key, job_file_key(new_id()))


def test_discarded_upload_is_gone(store: FileStore, tmp_path: Path) -> None:
    writer = store.new_upload("clip.mp4")
    writer.write(b"abc")
    for _ in range(2):
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
    store.stored.make_folder("jobs/lost+found")
    assert store.job_ids() == [job_id]
    assert store.job_ids(min_age_s=60) == []
    store.delete_segments(job_id)
    assert set(store.stored.entries(job_folder(job_id))) == {"result.mp4"}
    store.delete_job(job_id)
    store.delete_job(job_id)
    assert not store.has(result_key(job_id)) and store.job_ids() == []


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
    first, second = _sent(store).key, _sent(store).key
    store.sweep_uploads(min_age_s=3600)
    pause_s = 2.1 if _is_bucket(store) else 0.1
    time.sleep(pause_s)
    now = time.time()
    monkeypatch.setattr(file_store, "time", SimpleNamespace(time=lambda: now))  # however long the next lines take
    store.touch_upload(second)
    store.sweep_uploads(min_age_s=0.7 * pause_s)
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
        (tmp_path / "data" / "uploads").mkdir(parents=True)
        (tmp_path / "data" / "uploads").chmod(0o755)
        (tmp_path / "data").chmod(0o755)
        store = FileStore(tmp_path / "data")
        new = FileStore(tmp_path / "new")
        JobTable(Database(new.table_path)).close()
        key = _sent(store).key
    finally:
        os.umask(umask)
    names = ("uploads", "jobs", "avatars")
    folders = [store.root, store.root / "uploads", new.root, *(new.root / name for name in names)]
    assert {folder.stat().st_mode & 0o777 for folder in folders} == {0o700}
    assert {path.stat().st_mode & 0o777 for path in (store.root / upload_key(key), new.table_path)} == {0o600}


def test_explain_input_error_tells_bad_input_from_lost_file(store: FileStore) -> None:
    key, sha256 = job_file_key(new_id()), hashlib.sha256(b"abc").hexdigest()
    store.take_upload(_sent(store).key, key)
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
    refuse = Mock(side_effect=OSError(errno.EROFS, "Read-only file system"))
    monkeypatch.setattr("lipwright.storage.uploads.open_private", refuse)
    with pytest.raises(StorageFullError, match="read-only"):
        store.new_upload("clip.mp4")


INFO = {"width": 64, "height": 48}


def test_owners_use_and_delete_only_their_own(store: FileStore) -> None:
    backgrounds = BackgroundStore(store)
    made, same = (backgrounds.add("a", _sent(store, b"office"), INFO) for _ in range(2))
    others = (backgrounds.add(owner, _sent(store, text), INFO) for owner, text in (("a", b"beach"), ("b", b"office")))
    assert same.id == made.id and made.id not in [other.id for other in others]
    assert text_of(store.stored, background_source_key(made.id)) == b"office"
    for owner, file_id in (("b", made.id), ("a", "0" * 32), ("a", "../jobs")):
        with pytest.raises(NotFoundError, match="POST /v1/backgrounds"):
            backgrounds.use(file_id, owner)
        with pytest.raises(NotFoundError):
            backgrounds.delete(file_id, owner)
    assert backgrounds.use(made.id, "a").info == backgrounds.use(made.id, None).info == INFO
    backgrounds.delete(made.id, "a")
    with pytest.raises(NotFoundError):
        backgrounds.use(made.id, "a")


def _add(voices: VoiceStore, owner: str | None, name: str, wav: bytes = b"RIFF") -> VoiceRecord:
    record = VoiceRecord(name=name, duration_seconds=1.5, created_at=utc_now())
    with voices.written_sample(owner, name) as path:
        path.write_bytes(wav)
    voices.add(owner, record)
    return record


def test_voices_are_found_by_owner_and_name(store: FileStore) -> None:
    voices = VoiceStore(store.stored)
    anna, zoe = _add(voices, "a", "zoe", b"zoe"), _add(voices, "a", "../anna", b"anna")
    _add(voices, None, "zoe", b"other")
    assert voices.list("a") == [zoe, anna] and voices.count("a") == 2 and voices.list("b") == []
    found = voices.find("a", "zoe")
    assert found is not None and (found.record, found.wav) == (anna, b"zoe")
    assert voices.find("b", "zoe") is None
    voices.delete("a", "zoe")
    assert voices.list("a") == [zoe] and not voices.has("a", "zoe") and voices.has(None, "zoe")
    with pytest.raises(NotFoundError, match="no cloned voice 'zoe'"):
        voices.delete("a", "zoe")
    with pytest.raises(NotFoundError):
        voices.delete("b", zoe.id)
    voices.delete("a", zoe.id)
    assert voices.list("a") == []


def test_delete_voice_removes_what_was_left_of_one(stored: StoredFiles, store: FileStore) -> None:
    voices = VoiceStore(store.stored)
    anna = _add(voices, "a", "anna")
    stored.remove(f"{voice_folder('a', 'anna')}/voice.json")  # and then the process ended
    assert voices.list("a") == [] and voices.count("a") == 1
    voices.delete("a", anna.name)
    assert voices.count("a") == 0
    with pytest.raises(NotFoundError):
        voices.delete("a", anna.name)


def test_written_file_is_on_disk_before_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fsync, out, synced = os.fsync, tmp_path / "result.mp4", list[int]()

    def record(file: int) -> None:
        fsync(file)
        synced.append(os.fstat(file).st_ino)
        assert not out.exists()

    monkeypatch.setattr(os, "fsync", record)
    with written_atomically(out) as part:
        part.write_bytes(b"film")
    assert synced == [out.stat().st_ino]


def test_a_failed_replacement_leaves_the_voice_as_it_was(store: FileStore) -> None:
    voices = VoiceStore(store.stored)
    record = _add(voices, "a", "anna", b"old")
    with pytest.raises(StateError, match="already a voice 'anna'"), voices.written_sample("a", "anna"):
        pass
    with pytest.raises(RuntimeError), voices.written_sample("a", "anna", replaces=True) as path:
        path.write_bytes(b"half")
        raise RuntimeError
    with pytest.raises(RuntimeError), voices.written_sample("a", "zoe"):
        raise RuntimeError
    assert voices.count("a") == 1
    found = voices.find("a", "anna")
    assert found is not None and (found.record, found.wav) == (record, b"old")
    with voices.written_sample("a", "anna", replaces=True) as path:
        path.write_bytes(b"new")
    voices.add("a", record.model_copy(update={"transcript": "Hello."}))
    found = voices.find("a", "anna")
    assert found is not None and (found.record.transcript, found.wav) == ("Hello.", b"new")


NAME = new_id()
KEY, FOLDER = f"jobs/{NAME}/result.mp4", f"avatars/{NAME}"
BIG = bytes(range(256)) * 80_000  # 20 MB: several parts


def test_a_small_file_is_whole_and_replaced_as_a_whole(stored: StoredFiles) -> None:
    assert stored.find(KEY) is None
    stored.make_folder(f"jobs/{NAME}")
    tags = set[str]()
    for content in (b"one", b"twice"):
        stored.put(KEY, content)
        assert text_of(stored, KEY) == content
        state = stored.find(KEY)
        assert state is not None and state.num_bytes == len(content)
        tags.add(state.tag)
        assert stored.read(KEY, 1, 3, state.tag) == content[1:3]
        assert stored.read(KEY, 2, 2, state.tag) == b""
        assert stored.intact({KEY: hashlib.sha256(content).hexdigest()})
    assert not stored.intact({KEY: hashlib.sha256(b"one").hexdigest()})
    assert len(tags) == 2 and not set("".join(tags)) & set('"\\ \n')


def test_a_large_file_is_written_whole_or_not_at_all(stored: StoredFiles) -> None:
    stored.make_folder(f"jobs/{NAME}")
    with pytest.raises(ZeroDivisionError), stored.written(KEY) as part:
        part.write_bytes(b"half")
        raise ZeroDivisionError
    assert stored.find(KEY) is None
    with stored.written(KEY) as part:
        assert part.name == "result.mp4" and stored.entries(f"jobs/{NAME}") == {}
        part.write_bytes(BIG)
    assert text_of(stored, KEY) == BIG
    state = stored.find(KEY)
    assert state is not None and state.num_bytes == len(BIG)
    assert stored.read(KEY, 9_000_000, 9_000_500, state.tag) == BIG[9_000_000:9_000_500]


def test_what_is_not_there_is_said_by_its_name(stored: StoredFiles) -> None:
    with pytest.raises(StoredFileError, match=r"^result\.mp4: the stored file is missing"):
        text_of(stored, KEY)
    with pytest.raises(StoredFileError):
        stored.move(KEY, f"{KEY}2")
    assert not stored.intact({KEY: "00"})
    stored.remove(KEY)
    stored.remove_folder(f"jobs/{NAME}")
    stored.touch(KEY)
    assert stored.find(KEY) is None
    assert stored.entries(f"jobs/{NAME}") == {}


def write(stored: StoredFiles, track: bytes, info: bytes) -> None:
    with stored.written_folder(FOLDER, "", "avatar.json", ()) as folder:
        (folder / "track.npz").write_bytes(track)
        (folder / "avatar.json").write_bytes(info)


def parts(stored: StoredFiles, *wanted: str) -> dict[str, bytes]:
    with stored.fetched_folder(FOLDER, wanted) as folder:
        return {name: (folder / name).read_bytes() for name in wanted if (folder / name).is_file()}


def test_a_folder_is_written_in_parts(stored: StoredFiles) -> None:
    stored.make_folder(FOLDER)
    stored.put(f"{FOLDER}/source", b"film")
    with pytest.raises(ZeroDivisionError), stored.written_folder(FOLDER, "", "avatar.json") as folder:
        (folder / "track.npz").write_bytes(b"half")
        raise ZeroDivisionError
    assert "avatar.json" not in parts(stored, "avatar.json", "track.npz")
    write(stored, b"track", b"whole")
    with stored.written_folder(FOLDER, "engines/warp-1/", "complete", ("avatar.json", "track.npz")) as folder:
        assert (folder / "track.npz").read_bytes() == b"track", "an analysis reads what it is made of"
        (folder / "engines/warp-1/bank.npz").write_bytes(b"bank")
        (folder / "engines/warp-1/complete").write_bytes(b"all")
    assert parts(stored, "avatar.json", "track.npz") == {"avatar.json": b"whole", "track.npz": b"track"}
    with stored.fetched_folder(FOLDER, ("avatar.json", "engines/warp-1/")) as folder:
        assert (folder / "engines/warp-1/bank.npz").read_bytes() == b"bank"
    write(stored, b"another", b"again")
    assert parts(stored, "avatar.json", "track.npz") == {"avatar.json": b"again", "track.npz": b"another"}
    assert text_of(stored, f"{FOLDER}/source") == b"film"


FIRST, SECOND = job_folder("1" * 32), job_folder("2" * 32)
DIGEST, OTHER = "a" * 32, "b" * 32
SOUND = b"RIFF of a text"


def _cues(store: FileStore, max_bytes: int = 10_000, max_idle_s: float = 3600.0) -> CueStore:
    for folder in (FIRST, SECOND):
        store.stored.make_folder(folder)
    return CueStore(store.stored, max_bytes, max_idle_s)


def _speak(store: FileStore, cues: CueStore, digest: str = DIGEST, sound: bytes = SOUND) -> SpokenCue:
    return cues.add(_sent(store, sound), 1.5, "a", digest, FIRST)


def test_take_finds_a_cue_in_its_job_and_the_cache(store: FileStore) -> None:
    cues = _cues(store)
    assert cues.take("a", DIGEST, FIRST) is None
    record = _speak(store, cues)
    assert record.sha256 == hashlib.sha256(SOUND).hexdigest()
    assert cues.take("a", DIGEST, FIRST) == record
    assert cues.take("a", DIGEST, SECOND) == record.model_copy(update={"key": cue_key(SECOND, DIGEST)})
    assert text_of(store.stored, cue_key(SECOND, DIGEST)) == SOUND
    assert store.stored.entries("uploads") == {}
    third = job_folder("3" * 32)
    assert cues.take("b", DIGEST, third) is None and cues.take(None, DIGEST, third) is None
    if not _is_bucket(store):
        keys = (cue_key(folder, DIGEST) for folder in (FIRST, SECOND, cues_folder("a")))
        assert len({os.stat(store.root / key).st_ino for key in keys}) == 1, "copies in a folder take no space"
    missing = SpokenCue(key=cue_key(FIRST, OTHER), sha256="0" * 64, num_bytes=1, seconds=1.0)
    with pytest.raises(StoredFileError):
        cues.copy(missing, cue_key(SECOND, OTHER))


def test_take_of_a_damaged_cue_finds_nothing(store: FileStore) -> None:
    cues = _cues(store)
    _speak(store, cues)
    store.stored.put(cue_key(FIRST, DIGEST) + ".json", b'{"sha256": ')
    assert cues.find(cue_key(FIRST, DIGEST)) is None
    assert cues.take("a", DIGEST, FIRST) is not None, "it is copied from the cache again"
    store.stored.put(cue_key(cues_folder("a"), DIGEST), SOUND[::-1])
    assert cues.take("a", DIGEST, SECOND) is None
    assert store.stored.states(CUES) == {}, "the damaged file is removed"
    store.stored.put(cue_key(FIRST, DIGEST), b"")
    assert cues.take("a", DIGEST, FIRST) is None


def test_sweep_removes_the_least_recently_used(store: FileStore) -> None:
    num_bytes = 1000
    cues = _cues(store, max_bytes=3 * num_bytes)
    digests = [letter * 32 for letter in "abcd"]
    for digest in digests:
        if digest == digests[3]:
            time.sleep(1.1 if _is_bucket(store) else 0.02)
        _speak(store, cues, digest, bytes(num_bytes))
    assert cues.take("a", digests[0], SECOND) is not None
    assert cues.sweep() == 2, "records take space as well"
    cached = {key.rpartition("/")[2] for key in store.stored.states(CUES) if not key.endswith(".json")}
    assert cached == {digests[0], digests[3]}
    assert cues.take("a", digests[1], FIRST) is not None, "the job keeps its file"
    assert cues.sweep() == 0
    assert _cues(store, max_idle_s=-1.0).sweep() == 2, "unused for too long"
    assert store.stored.states(CUES) == {}


def test_add_without_a_cache_keeps_the_cue_in_its_job(store: FileStore) -> None:
    cues = _cues(store, max_bytes=0)
    record = _speak(store, cues)
    assert cues.take("a", DIGEST, FIRST) == record and cues.take("a", DIGEST, SECOND) is None
    _speak(store, _cues(store), OTHER)
    assert cues.sweep() == 1 and store.stored.states(CUES) == {}, "what an earlier setting left"
