"""The data root: what lies in it is found as clients name it, and nothing else is."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from api.heygem.data_root import DataRoot, _open_beneath
from errors import InputError, UrlRefusedError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    for name in ("temp/a.wav", "temp/deep/b.wav", "characters/c.mp4", "a file.wav"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(name.encode())
    (tmp_path / "secret").write_bytes(b"secret")
    (tmp_path / "root-2").mkdir()
    (tmp_path / "root-2" / "temp").write_bytes(b"secret")
    return root


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("a.wav", "temp/a.wav"),
        ("./deep/../a.wav", "temp/a.wav"),
        ("deep/b.wav", "temp/deep/b.wav"),
        ("../characters/c.mp4", "characters/c.mp4"),
        ("/code/data/temp/a.wav", "temp/a.wav"),
        ("/code/data/a file.wav", "a file.wav"),
        ("{root}/characters/c.mp4", "characters/c.mp4"),
        ("inside.wav", "characters/c.mp4"),
        ("linked/c.mp4", "characters/c.mp4"),
    ],
)
def test_names_of_clients(folder: Path, name: str, found: str) -> None:
    (folder / "temp" / "inside.wav").symlink_to(folder / "characters" / "c.mp4")
    (folder / "temp" / "linked").symlink_to(folder / "characters")
    with DataRoot(folder, "/code/data").open(name.replace("{root}", str(folder))) as file:
        assert file.read() == found.encode()


@pytest.mark.parametrize(
    "name",
    [
        *("../../secret", "../../nothing", "/etc/passwd", "/code/data/../../secret", "/code/database/x"),
        *("{root}/../secret", "{root}-2/temp", "outside.wav", "upwards/secret", "deep/../../../secret"),
    ],
)
def test_ways_out(folder: Path, name: str) -> None:
    (folder / "temp" / "outside.wav").symlink_to(folder.parent / "secret")
    (folder / "temp" / "upwards").symlink_to("../..")
    with pytest.raises(UrlRefusedError, match="not in the data root"):
        DataRoot(folder, "/code/data").open(name.replace("{root}", str(folder)))


@pytest.mark.parametrize("name", ["missing.wav", "deep", ".", "..", "a.wav/x", "pipe", "a\0b", "x" * 4000])
def test_what_is_no_file(folder: Path, name: str) -> None:
    os.mkfifo(folder / "temp" / "pipe")
    with pytest.raises(InputError):
        DataRoot(folder, "/code/data").open(name)


def test_a_root_that_is_a_link(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(folder)
    for name in ("a.wav", "/code/data/temp/a.wav", f"{tmp_path}/link/temp/a.wav", f"{folder}/temp/a.wav"):
        DataRoot(tmp_path / "link", "/code/data").open(name).close()


def test_results_are_copied_once_and_anew_when_they_change(folder: Path, tmp_path: Path) -> None:
    root, result = DataRoot(folder, "/code/data"), tmp_path / "result.mp4"
    result.write_bytes(b"one")
    os.utime(result, (1, 1))
    target = root.keep_result("task", result)
    assert (target, target.read_bytes()) == (folder / "temp" / "task-r.mp4", b"one")
    inode = target.stat().st_ino
    assert root.keep_result("task", result).stat().st_ino == inode
    result.write_bytes(b"two")
    assert root.keep_result("task", result).read_bytes() == b"two"
    assert not list((folder / "temp").glob(".*.part"))
    target.unlink()
    target.symlink_to(tmp_path / "secret")
    assert root.keep_result("task", result).read_bytes() == b"two"
    assert (tmp_path / "secret").read_bytes() == b"secret", "a link is replaced, not followed"


def test_a_way_that_changes_meanwhile_leads_nowhere(folder: Path) -> None:
    (folder / "temp" / "linked").symlink_to(folder / "characters")
    (folder / "temp" / "inside.wav").symlink_to(folder / "characters" / "c.mp4")
    for parts in (("temp", "linked", "c.mp4"), ("temp", "inside.wav")):
        with pytest.raises(OSError, match="linked|inside"):
            _open_beneath(folder, parts)
    os.close(_open_beneath(folder, ("temp", "a.wav")))


def test_keep_result_into_linked_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "outside").mkdir()
    (tmp_path / "data" / "temp").symlink_to(tmp_path / "outside")
    result = tmp_path / "result.mp4"
    result.write_bytes(b"video")
    with pytest.raises(UrlRefusedError, match="temp"):
        DataRoot(tmp_path / "data", "/code/data").keep_result("task", result)
    assert not any((tmp_path / "outside").iterdir())
