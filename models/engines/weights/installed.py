"""The files of one variant, as its engine asks for them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from errors import WeightsError
from models.engines.weights.entry import WeightsEntry, add_command

if TYPE_CHECKING:
    from models.engines.weights.store import WeightsStore


class InstalledWeights:
    """`contract.EngineWeights` over a store.

    A file is hashed when it is first asked for, and again only after it was changed.

    Args:
        store: Where the files lie.
        name: Engine and variant, such as `wav2lip:gan`.
    """

    def __init__(self, store: WeightsStore, name: str) -> None:
        self._store = store
        self._name = name
        self._sound: set[tuple[Path, int, int, int]] = set()

    def has(self, role: str) -> bool:
        """Whether there is a file of that role; it is not hashed."""
        entry = self._store.find(self._name, role)
        return entry is not None and self._store.path_of(entry).is_file()

    def mark(self, role: str) -> str:
        """Return the sum of the file of a role as it was added, empty if there is none; it is not hashed."""
        entry = self._store.find(self._name, role)
        return "" if entry is None else entry.sha256

    def path(self, role: str) -> Path:
        """Return the file of a role.

        Raises:
            WeightsError: There is none, or it is not the one that was added; says what mends that.
        """
        entry = self._store.find(self._name, role)
        if entry is None:
            title = self._store.role(self._name, role).title
            raise WeightsError(f"{self._name} has no {role} ({title}). Add it: {add_command(self._name, role)}")
        marks = set(_marks(self._store.path_of(entry), entry))
        if not marks or not marks <= self._sound:
            if fault := file_fault(self._store.path_of(entry), entry):
                raise WeightsError(f"{fault} Add it again: {add_command(self._name, role)}")
            self._sound |= marks
        return self._store.path_of(entry)


def file_fault(path: Path, entry: WeightsEntry) -> str | None:
    """Compare the files of an entry with their sums; None when all are right.

    Args:
        path: The main file.
        entry: What was added.
    """
    parts = [(path, entry.label, entry.sha256)]
    parts += [(path.parent / each.location, each.location, each.sha256) for each in entry.companions]
    for part, label, expected in parts:
        try:
            with part.open("rb") as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            return f"{entry.name} {entry.role}: expected the file {label}, it cannot be read: {error.strerror}."
        if found != expected:
            return f"{entry.name} {entry.role}: expected {label} with sha256 {expected}, found {found}."
    return None


def _marks(path: Path, entry: WeightsEntry) -> Iterator[tuple[Path, int, int, int]]:
    """What changes when somebody writes to one of the files."""
    for part in (path, *(path.parent / each.location for each in entry.companions)):
        try:
            state = part.stat()
        except OSError:
            yield part, -1, -1, -1
        else:
            yield part, state.st_mtime_ns, state.st_ino, state.st_size
