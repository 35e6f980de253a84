"""The folder of a presenter, for those who only have to know what is in it.

folder/presenter.json                  what it is; written last, so that it makes the folder whole
folder/track.npz                       the face in every frame
folder/motion.npz                      how a still moves
folder/engines/{name}-{version}/       what one engine keeps of it; `complete` is written last
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final, Protocol

PRESENTER_VERSION: Final = "9"
"""Part of the key of cached presenters: another one when a change in the tracking makes old folders wrong."""

INFO_FILE: Final = "presenter.json"
_COMPLETE_FILE: Final = "complete"


class Keeper(Protocol):
    """An engine, as far as its folder is concerned."""

    name: str
    version: str


def is_tracked(folder: Path) -> bool:
    """Returns whether the folder holds a whole presenter of this version."""
    try:
        return bool(json.loads((folder / INFO_FILE).read_text())["version"] == PRESENTER_VERSION)
    except (OSError, ValueError, KeyError, TypeError):
        return False


def analysis_folder(folder: Path, engine: Keeper) -> Path:
    """Returns where an engine keeps what it needs beside the track."""
    return folder / "engines" / f"{engine.name}-{engine.version}"


def is_analysed(folder: Path, engine: Keeper) -> bool:
    """Returns whether an engine has all that it keeps."""
    return (analysis_folder(folder, engine) / _COMPLETE_FILE).is_file()


def note_analysed(folder: Path, engine: Keeper) -> None:
    """Says that an engine has written all that it keeps."""
    (analysis_folder(folder, engine) / _COMPLETE_FILE).touch()
