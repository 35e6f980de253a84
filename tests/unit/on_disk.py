"""Where a file of a store in a folder lies: tests look at it, write it and harm it there."""

from __future__ import annotations

from pathlib import Path

from lipwright.storage.file_store import FileStore


def on_disk(files: FileStore, key: str) -> Path:
    """The path of a file or folder; the folder that it is in is made."""
    path = files.root / key
    path.parent.mkdir(parents=True, exist_ok=True)
    return path
