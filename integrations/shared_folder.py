"""Restricts file access of an MCP server to one folder."""

from __future__ import annotations

from pathlib import Path

from lipwright_client.files import is_url


class FolderError(ValueError):
    """A path is not allowed. Argument: the error message."""


class SharedFolder:
    """File access limited to one folder.

    Args:
        root: The folder.
    """

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()

    def source(self, name: str, field: str) -> str | Path:
        """Return an input: a URL, which the service downloads, or a file in the folder.

        Raises:
            FolderError: The file is outside the folder or does not exist.
        """
        if is_url(name):
            return name
        path = self._inside(name, field)
        if not path.is_file():
            raise FolderError(f"{field}: {self.root} has no file {name}.")
        return path

    def target(self, name: str, field: str, suffix: str) -> Path:
        """Return the path of a new file that ends in `suffix`, such as `.mp4`.

        Raises:
            FolderError: The path is outside the folder, exists, or has no parent folder.
        """
        path = self._inside(name, field)
        if path.suffix.lower() != suffix:
            raise FolderError(f"{field}: {name} must end in {suffix}.")
        if path.exists() or path.is_symlink():
            raise FolderError(f"{field}: {name} already exists. Choose another name.")
        if not path.parent.is_dir():
            raise FolderError(f"{field}: the folder {path.parent} does not exist.")
        return path

    def _inside(self, name: str, field: str) -> Path:
        path = (self.root / name).resolve()
        if not path.is_relative_to(self.root):
            raise FolderError(f"{field}: {name} is outside of {self.root}.")
        return path
