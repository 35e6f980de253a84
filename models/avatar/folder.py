"""Layout of an avatar folder.

folder/avatar.json                     source info and hashes of the other files; written last, marks it complete
folder/track.npz                       the face in every frame; for a still, in its one picture
folder/motion.npz                      how a still moves
folder/layers.npz                      person and background of a still, unless its matte is uncertain
folder/occluders.npz                   objects that cover the mouth, if any
folder/engines/{name}-{version}/       analysis of one engine; `complete`, with the hashes, is written last
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final, Protocol

AVATAR_VERSION: Final = "27"
"""Part of the cache key of avatars: increment it when a change in tracking invalidates old folders."""

INFO_FILE: Final = "avatar.json"
TRACK_FILE: Final = "track.npz"
MOTION_FILE: Final = "motion.npz"
LAYERS_FILE: Final = "layers.npz"
OCCLUDERS_FILE: Final = "occluders.npz"
COMPLETE_FILE: Final = "complete"
AVATAR_FILES: Final = (INFO_FILE, TRACK_FILE, MOTION_FILE, LAYERS_FILE, OCCLUDERS_FILE)
"""The files of the avatar itself, shared by all engines."""


class VersionedEngine(Protocol):
    """The attributes of an engine that name its folder."""

    name: str
    version: str


def file_hashes(folder: Path, names: Iterable[str]) -> dict[str, str]:
    """Return the SHA-256 of files in a folder, by name."""
    found = {}
    for name in names:
        with (folder / name).open("rb") as file:
            found[name] = hashlib.file_digest(file, "sha256").hexdigest()
    return found


def is_tracked(folder: Path) -> bool:
    """Return whether the folder holds a complete, undamaged avatar of this version. Reads and hashes all files."""
    known = read_info(folder)
    return known.get("version") == AVATAR_VERSION and _are_as_written(folder, known.get("files"))


def read_info(folder: Path) -> dict[str, Any]:
    """Return the content of the info file; empty if it is missing or invalid."""
    return _read(folder / INFO_FILE)


def analysis_part(engine: VersionedEngine) -> str:
    """Return the path, relative to the avatar folder, of an engine's analysis."""
    return f"engines/{engine.name}-{engine.version}/"


def analysis_folder(folder: Path, engine: VersionedEngine) -> Path:
    """Return the path of an engine's analysis."""
    return folder / analysis_part(engine)


def is_analysed(folder: Path, engine: VersionedEngine) -> bool:
    """Return whether an engine's analysis is complete and undamaged. Reads and hashes all files."""
    kept = analysis_folder(folder, engine)
    return _are_as_written(kept, _read(kept / COMPLETE_FILE).get("files"))


def mark_analysed(folder: Path, engine: VersionedEngine) -> None:
    """Mark an engine's analysis as complete."""
    kept = analysis_folder(folder, engine)
    names = (path.relative_to(kept).as_posix() for path in sorted(kept.rglob("*")) if path.is_file())
    write_whole(kept / COMPLETE_FILE, {"files": file_hashes(kept, (name for name in names if name != COMPLETE_FILE))})


def write_whole(path: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON file atomically."""
    partial = path.with_name(f"{path.name}.part")
    partial.write_text(json.dumps(content, indent=1))
    partial.replace(path)


def _read(path: Path) -> dict[str, Any]:
    """Return the content of a JSON file; empty if it is missing or invalid."""
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _are_as_written(folder: Path, hashes: object) -> bool:
    try:
        return isinstance(hashes, dict) and file_hashes(folder, hashes) == hashes
    except OSError:
        return False
