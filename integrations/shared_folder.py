"""The folder that a program which takes orders from a model may read from and write into."""

from __future__ import annotations

from pathlib import Path

from lipwright_client.sources import is_url


class FolderError(ValueError):
    """A path that is not given out. Argument: one line for whoever asked."""


class SharedFolder:
    """One folder, and nothing beside it.

    Args:
        root: The folder.
    """

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()

    def source(self, name: str, field: str) -> str | Path:
        """An input: a URL, which the service fetches by its own rules, or a file in the folder.

        Raises:
            FolderError: It leads out of the folder, or is not there.
        """
        if is_url(name):
            return name
        path = self._inside(name, field)
        if not path.is_file():
            raise FolderError(f"{field}: there is no file {name} in {self.root}.")
        return path

    def target(self, name: str, field: str) -> Path:
        """A new .mp4 file.

        Raises:
            FolderError: It leads out of the folder, is there already, or has no place.
        """
        path = self._inside(name, field)
        if path.suffix.lower() != ".mp4":
            raise FolderError(f"{field}: expected a name that ends in .mp4, found {name}.")
        if path.exists() or path.is_symlink():
            raise FolderError(f"{field}: {name} exists, and is not replaced: take another name.")
        if not path.parent.is_dir():
            raise FolderError(f"{field}: there is no folder {path.parent}.")
        return path

    def _inside(self, name: str, field: str) -> Path:
        path = (self.root / name).resolve()
        if not path.is_relative_to(self.root):
            raise FolderError(f"{field}: expected a URL or a file in {self.root}, found {name}.")
        return path
