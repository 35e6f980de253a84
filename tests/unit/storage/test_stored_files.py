"""What every place of files does: the same tests on a folder and on a bucket behind a real server."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from errors import NotFoundError, StateError, StoredFileError
from jobs.model.base import UploadedFile, new_id, utc_now
from storage.backgrounds import BackgroundStore
from storage.file_keys import background_source_key
from storage.file_store import FileStore
from storage.files import StoredFiles
from storage.voices import VoiceRecord, VoiceStore

INFO = {"width": 64, "height": 48}


def _sent(store: FileStore, content: bytes) -> UploadedFile:
    writer = store.new_upload("office.jpg")
    writer.write(content)
    return writer.finish()


def test_the_same_file_of_the_same_owner_is_the_same_background(store: FileStore) -> None:
    backgrounds = BackgroundStore(store)
    first = backgrounds.add("a", _sent(store, b"office"), INFO)
    assert backgrounds.add("a", _sent(store, b"office"), INFO).id == first.id
    assert len({first.id, backgrounds.add("a", _sent(store, b"beach"), INFO).id}) == 2
    assert backgrounds.add("b", _sent(store, b"office"), INFO).id != first.id
    with store.stored.fetched(background_source_key(first.id)) as path:
        assert path.read_bytes() == b"office"


def test_owners_use_and_delete_only_their_own(store: FileStore) -> None:
    backgrounds = BackgroundStore(store)
    made = backgrounds.add("a", _sent(store, b"office"), INFO)
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


def test_a_voice_is_not_replaced_and_a_failure_leaves_nothing(store: FileStore) -> None:
    voices = VoiceStore(store.stored)
    _add(voices, "a", "anna")
    with pytest.raises(StateError, match="already a voice 'anna'"), voices.written_sample("a", "anna"):
        pass
    with pytest.raises(RuntimeError), voices.written_sample("a", "zoe"):
        raise RuntimeError
    assert voices.count("a") == 1


def test_a_failed_replacement_leaves_the_voice_as_it_was(store: FileStore) -> None:
    voices = VoiceStore(store.stored)
    record = _add(voices, "a", "anna", b"old")
    with pytest.raises(RuntimeError), voices.written_sample("a", "anna", replaces=True) as path:
        path.write_bytes(b"half")
        raise RuntimeError
    found = voices.find("a", "anna")
    assert found is not None and (found.record, found.wav) == (record, b"old")
    with voices.written_sample("a", "anna", replaces=True) as path:
        path.write_bytes(b"new")
    voices.add("a", record.model_copy(update={"transcript": "Hello."}))
    found = voices.find("a", "anna")
    assert found is not None and (found.record.transcript, found.wav) == ("Hello.", b"new")


def test_delete_voice_by_id_removes_it_for_its_owner_only(store: FileStore) -> None:
    voices = VoiceStore(store.stored)
    kept, gone = _add(voices, "a", "zoe"), _add(voices, "a", "heygem:/code/data/J\u00fcrgen 1.wav")
    with pytest.raises(NotFoundError):
        voices.delete("b", gone.id)
    voices.delete("a", gone.id)
    assert voices.list("a") == [kept]


def test_voice_record_without_id_has_the_one_of_its_name(store: FileStore) -> None:
    record = VoiceRecord.model_validate_json(
        '{"name": "zoe", "duration_seconds": 1, "created_at": "2026-01-01T00:00:00Z"}'
    )
    voices = VoiceStore(store.stored)
    with voices.written_sample(None, "zoe") as path:
        path.write_bytes(b"RIFF")
    voices.add(None, record)
    voices.delete(None, record.id)
    assert not voices.list(None)


NAME = new_id()
KEY, FOLDER = f"jobs/{NAME}/result.mp4", f"avatars/{NAME}"
BIG = bytes(range(256)) * 80_000  # 20 MB: several parts


def text_of(stored: StoredFiles, key: str) -> bytes:
    with stored.fetched(key) as path:
        assert path.name == key.rpartition("/")[2]
        return path.read_bytes()


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
        assert part.name == "result.mp4"
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


def test_files_move_and_go(stored: StoredFiles) -> None:
    stored.make_folder(f"jobs/{NAME}/segments")
    stored.put(f"jobs/{NAME}/segments/000001.mp4", b"one")
    stored.move(f"jobs/{NAME}/segments/000001.mp4", f"{FOLDER}/source")
    assert text_of(stored, f"{FOLDER}/source") == b"one"
    assert NAME in stored.entries("avatars") and set(stored.entries(FOLDER)) == {"source"}
    assert stored.find(f"jobs/{NAME}/segments/000001.mp4") is None
    stored.remove_folder(FOLDER)
    assert stored.find(f"{FOLDER}/source") is None
    assert NAME not in stored.entries("avatars")


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


def test_an_arrival_is_there_once_it_is_published(stored: StoredFiles, tmp_path: Path) -> None:
    key = f"uploads/{new_id()}"
    path = stored.staging_path(key)
    assert path.is_relative_to(tmp_path)
    path.write_bytes(b"speech")
    sha256 = hashlib.sha256(b"speech").hexdigest()
    stored.publish(path, key, sha256)
    assert text_of(stored, key) == b"speech"
    assert stored.intact({key: sha256})
