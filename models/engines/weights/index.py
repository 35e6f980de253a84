"""The list of the store's files: one JSON file, written whole or not at all, changed by one process at a time."""

from __future__ import annotations

import fcntl
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from errors import WeightsError
from models.engines.weights.entry import WeightsEntry

_FILE: Final = "index.json"
_LOCK: Final = ".lock"


class _Stored(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[1] = 1
    entries: tuple[WeightsEntry, ...] = ()


class WeightsIndex:
    """The entries of the store in `folder`; read again whenever the file has changed."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._seen: tuple[int, int, int] | None = None
        self._entries: tuple[WeightsEntry, ...] = ()

    def entries(self) -> tuple[WeightsEntry, ...]:
        """All entries, by name and role.

        Raises:
            WeightsError: The file cannot be read.
        """
        path = self._folder / _FILE
        try:
            state = path.stat()
            seen = (state.st_mtime_ns, state.st_ino, state.st_size)
            if seen != self._seen:
                self._entries, self._seen = _Stored.model_validate_json(path.read_bytes()).entries, seen
        except FileNotFoundError:
            self._entries, self._seen = (), None
        except (OSError, ValidationError) as error:
            raise WeightsError(f"{_FILE} of the weights: expected a file made by `lipwright models`.") from error
        return self._entries

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep every other process from changing the store inside the block."""
        self._folder.mkdir(parents=True, exist_ok=True)
        with (self._folder / _LOCK).open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def replace(self, entries: list[WeightsEntry]) -> None:
        """Write the whole list; call it inside of `locked`."""
        ordered = sorted(entries, key=lambda entry: (entry.name, entry.role))
        payload = _Stored(entries=tuple(ordered)).model_dump_json(indent=2).encode()
        partial = self._folder / f".{_FILE}.{secrets.token_hex(8)}.part"
        try:
            with partial.open("xb") as file:
                file.write(payload)
                file.flush()
                os.fsync(file.fileno())
            partial.replace(self._folder / _FILE)
        finally:
            partial.unlink(missing_ok=True)
