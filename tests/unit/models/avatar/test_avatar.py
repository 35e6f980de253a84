"""What an avatar holds in memory for engines."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

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
