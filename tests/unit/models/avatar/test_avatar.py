"""What an avatar holds in memory for engines."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from models.avatar.folder import (
    AVATAR_VERSION,
    INFO_FILE,
    analysis_folder,
    file_hashes,
    is_analysed,
    is_tracked,
    mark_analysed,
    write_whole,
)
from tests.unit.models.engines.paste.face_scene import make_avatar


@dataclass
class Kept:
    """Satisfies `models.avatar.folder.VersionedEngine`."""

    name: str
    version: str


def test_remember_is_per_engine_version(tmp_path: Path) -> None:
    avatar = make_avatar(tmp_path)
    heygem, original = Kept("dinet", "1-heygem"), Kept("dinet", "1-original")
    assert avatar.remember(heygem, lambda: "crops of 256") == "crops of 256"
    assert avatar.remember(original, lambda: "crops of 416") == "crops of 416"
    assert avatar.remember(heygem, lambda: "read again") == "crops of 256"


@dataclass
class VersionedEngine:
    name: str = "warp"
    version: str = "3"


DAMAGES: dict[str, Callable[[Path], Any]] = {
    "zeroed": lambda path: path.write_bytes(path.read_bytes()[:2000] + bytes(2000) + path.read_bytes()[4000:]),
    "cut": lambda path: path.write_bytes(path.read_bytes()[:-1]),
    "emptied": lambda path: path.write_bytes(b""),
    "gone": lambda path: path.unlink(),
}


@pytest.mark.parametrize("info_file", [INFO_FILE, "presenter.json"])
@pytest.mark.parametrize("damage", DAMAGES)
def test_is_tracked_damaged_track_is_false(tmp_path: Path, damage: str, info_file: str) -> None:
    assert not is_tracked(tmp_path)
    track = tmp_path / "track.npz"
    track.write_bytes(bytes(range(256)) * 40)
    content = {"version": AVATAR_VERSION, "files": file_hashes(tmp_path, [track.name])}
    write_whole(tmp_path / info_file, content)
    assert is_tracked(tmp_path)
    DAMAGES[damage](track)
    assert not is_tracked(tmp_path)


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", ["boxes.npy", "bank/0.npy"])
def test_is_analysed_damaged_file_is_false(tmp_path: Path, name: str, damage: str) -> None:
    engine = VersionedEngine()
    kept = analysis_folder(tmp_path, engine)
    for each in ("boxes.npy", "bank/0.npy"):
        (kept / each).parent.mkdir(parents=True, exist_ok=True)
        (kept / each).write_bytes(each.encode() * 1000)
    assert not is_analysed(tmp_path, engine)
    mark_analysed(tmp_path, engine)
    assert is_analysed(tmp_path, engine)
    DAMAGES[damage](kept / name)
    assert not is_analysed(tmp_path, engine)
    mark_analysed(tmp_path, engine)
    assert is_analysed(tmp_path, engine), "it was made again"


@pytest.mark.parametrize("text", ["", "[]", '{"files": 3}', '{"version": "9"}', "\0\0", '{"files": {"../x": "0"}}'])
def test_is_tracked_damaged_info_file_is_false(tmp_path: Path, text: str) -> None:
    engine = VersionedEngine()
    analysis_folder(tmp_path, engine).mkdir(parents=True)
    for path in (tmp_path / INFO_FILE, analysis_folder(tmp_path, engine) / "complete"):
        path.write_text(text)
    assert not is_tracked(tmp_path)
    assert not is_analysed(tmp_path, engine)
