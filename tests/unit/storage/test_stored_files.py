"""What every place of files does: the same tests on a folder and on a bucket behind a real server."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from errors import StoredFileError
from jobs.model.files import new_id
from storage.files import StoredFiles

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
    for content in (b"one", b"twice"):
        stored.put(KEY, content)
        assert text_of(stored, KEY) == content
        state = stored.find(KEY)
        assert state is not None and state.num_bytes == len(content)
        assert stored.read(KEY, 1, 3, state.tag) == content[1:3]
        assert stored.read(KEY, 2, 2, state.tag) == b""
        assert stored.intact({KEY: hashlib.sha256(content).hexdigest()})
    assert not stored.intact({KEY: hashlib.sha256(b"one").hexdigest()})


def test_another_content_has_another_tag(stored: StoredFiles) -> None:
    stored.make_folder(f"jobs/{NAME}")
    tags = []
    for content in (b"one", b"two!"):
        stored.put(KEY, content)
        state = stored.find(KEY)
        assert state is not None
        tags.append(state.tag)
    assert tags[0] != tags[1] and not set("".join(tags)) & set('"\\ \n')


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


def write(stored: StoredFiles, part: str, files: dict[str, bytes], last: str) -> None:
    with stored.written_folder(FOLDER, part, last, () if not part else ("avatar.json", "track.npz")) as folder:
        for name, content in files.items():
            (folder / part / name).write_bytes(content)


def parts(stored: StoredFiles, *wanted: str) -> dict[str, bytes]:
    with stored.fetched_folder(FOLDER, wanted) as folder:
        return {name: (folder / name).read_bytes() for name in wanted if (folder / name).is_file()}


def test_a_folder_is_written_in_parts(stored: StoredFiles) -> None:
    stored.make_folder(FOLDER)
    stored.put(f"{FOLDER}/source", b"film")
    write(stored, "", {"track.npz": b"track", "avatar.json": b"whole"}, "avatar.json")
    with stored.written_folder(FOLDER, "engines/warp-1/", "complete", ("avatar.json", "track.npz")) as folder:
        assert (folder / "track.npz").read_bytes() == b"track", "an analysis reads what it is made of"
        (folder / "engines/warp-1/bank.npz").write_bytes(b"bank")
        (folder / "engines/warp-1/complete").write_bytes(b"all")
    assert parts(stored, "avatar.json", "track.npz") == {"avatar.json": b"whole", "track.npz": b"track"}
    with stored.fetched_folder(FOLDER, ("avatar.json", "engines/warp-1/")) as folder:
        assert (folder / "engines/warp-1/bank.npz").read_bytes() == b"bank"
    write(stored, "", {"track.npz": b"another", "avatar.json": b"again"}, "avatar.json")
    assert parts(stored, "avatar.json", "track.npz") == {"avatar.json": b"again", "track.npz": b"another"}
    assert text_of(stored, f"{FOLDER}/source") == b"film"


def test_a_folder_whose_writing_fails_is_not_whole(stored: StoredFiles) -> None:
    stored.make_folder(FOLDER)
    with pytest.raises(ZeroDivisionError), stored.written_folder(FOLDER, "", "avatar.json") as folder:
        (folder / "track.npz").write_bytes(b"track")
        raise ZeroDivisionError
    assert "avatar.json" not in parts(stored, "avatar.json", "track.npz")


def test_an_arrival_is_there_once_it_is_published(stored: StoredFiles, tmp_path: Path) -> None:
    key = f"uploads/{new_id()}"
    path = stored.staging_path(key)
    assert path.is_relative_to(tmp_path)
    path.write_bytes(b"speech")
    sha256 = hashlib.sha256(b"speech").hexdigest()
    stored.publish(path, key, sha256)
    assert text_of(stored, key) == b"speech"
    assert stored.intact({key: sha256})
