"""The folder of an avatar, for those who only have to know what is in it.

folder/presenter.json                  what it is, and the others' hashes; written last: it makes the folder whole
folder/track.npz                       the face in every frame; of a still, in its one picture
folder/motion.npz                      how a still moves: with it, the track of all that the still shows is made again
folder/engines/{name}-{version}/       what one engine keeps of it; `complete`, with the hashes, is written last
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final, Protocol

AVATAR_VERSION: Final = "19"
"""Part of the key of cached avatars: another one when a change in the tracking makes old folders wrong."""

INFO_FILE: Final = "presenter.json"
TRACK_FILE: Final = "track.npz"
MOTION_FILE: Final = "motion.npz"
COMPLETE_FILE: Final = "complete"
AVATAR_FILES: Final = (INFO_FILE, TRACK_FILE, MOTION_FILE)
"""What is the avatar itself, for all engines."""


class VersionedEngine(Protocol):
    """An engine, as far as its folder is concerned."""

    name: str
    version: str


def file_hashes(folder: Path, names: Iterable[str]) -> dict[str, str]:
    """Returns the SHA-256 of files of a folder, by their names."""
    found = {}
    for name in names:
        with (folder / name).open("rb") as file:
            found[name] = hashlib.file_digest(file, "sha256").hexdigest()
    return found


def is_tracked(folder: Path) -> bool:
    """Returns whether the folder holds a whole avatar of this version, as it was written. Reads all of it."""
    known = _read(folder / INFO_FILE)
    return known.get("version") == AVATAR_VERSION and _are_as_written(folder, known.get("files"))


def analysis_part(engine: VersionedEngine) -> str:
    """Returns the part of the folder in which an engine keeps what it needs beside the track."""
    return f"engines/{engine.name}-{engine.version}/"


def analysis_folder(folder: Path, engine: VersionedEngine) -> Path:
    """Returns where that part lies."""
    return folder / analysis_part(engine)


def is_analysed(folder: Path, engine: VersionedEngine) -> bool:
    """Returns whether an engine has all that it keeps, as it was written. Reads all of it."""
    kept = analysis_folder(folder, engine)
    return _are_as_written(kept, _read(kept / COMPLETE_FILE).get("files"))


def mark_analysed(folder: Path, engine: VersionedEngine) -> None:
    """Says that an engine has written all that it keeps."""
    kept = analysis_folder(folder, engine)
    names = (path.relative_to(kept).as_posix() for path in sorted(kept.rglob("*")) if path.is_file())
    write_whole(kept / COMPLETE_FILE, {"files": file_hashes(kept, (name for name in names if name != COMPLETE_FILE))})


def write_whole(path: Path, content: Mapping[str, Any]) -> None:
    """Writes JSON so that the file is absent, old or complete."""
    partial = path.with_name(f"{path.name}.part")
    partial.write_text(json.dumps(content, indent=1))
    partial.replace(path)


def _read(path: Path) -> dict[str, Any]:
    """Returns what `write_whole` wrote; nothing if it is not there as it was."""
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _are_as_written(folder: Path, hashes: Any) -> bool:
    try:
        return isinstance(hashes, dict) and file_hashes(folder, hashes) == hashes
    except OSError:
        return False
