"""The index of the weights store: its entries, their names, and the JSON file that lists them.

The file is written whole or not at all, by one process at a time.
"""

from __future__ import annotations

import fcntl
import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Final, Literal

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, ValidationError

from lipwright.errors import OptionError, WeightsError

_VARIANT: Final = re.compile(r"[a-z0-9][a-z0-9_.-]{0,31}")
# Patterns for values in the index, so that no entry refers to a file outside the store's folder.
_NAME: Final = r"^[a-z0-9_-]+(:[a-z0-9][a-z0-9_.-]*)?$"
_ROLE: Final = r"^[a-z0-9_-]+$"
_LABEL: Final = r"^[A-Za-z0-9_()+-][A-Za-z0-9_.()+-]*$"
_LOCATION: Final = r"^\w[\w .()+@=-]*(/\w[\w .()+@=-]*)*$"
_UNSAFE: Final = re.compile(r"[^A-Za-z0-9_.()+-]+")
_MAX_LABEL_CHARS: Final = 80
_SUM_CHARS: Final = 16  # of the sha256, in file names


class ExternalFile(BaseModel):
    """A file with external data of an ONNX file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    location: str = Field(pattern=_LOCATION, description="Relative to the ONNX file, as it names it.")
    sha256: str
    num_bytes: int


class WeightsEntry(BaseModel):
    """One file of the store."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern=_NAME, description="Engine and variant, such as `wav2lip` or `wav2lip:gan`.")
    role: str = Field(pattern=_ROLE, description="What the engine uses it for.")
    label: str = Field(pattern=_LABEL, description="The name that the file came with.")
    format: Literal["torch", "safetensors", "onnx"]
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    num_bytes: int
    external_data: tuple[ExternalFile, ...] = Field(
        (), validation_alias=AliasChoices("external_data", "companions"), serialization_alias="companions"
    )
    source: str | None = Field(None, description="URL that it came from, without credentials; None for a file.")
    added_at: datetime

    @property
    def file_name(self) -> str:
        """What the file is called in the folder of its role."""
        return f"{self.sha256[:_SUM_CHARS]}-{self.label}"


def split_name(name: str) -> tuple[str, str | None]:
    """Return engine and variant of a name such as `wav2lip:gan`; None is the variant without a name."""
    engine, colon, variant = name.partition(":")
    return engine, variant if colon else None


def join_name(engine: str, variant: str | None) -> str:
    """Return the name of a variant of `engine`.

    Raises:
        OptionError: The name of the variant is not valid.
    """
    if variant is None:
        return engine
    if not _VARIANT.fullmatch(variant):
        raise OptionError(f"--name: expected up to 32 small letters, digits, '.', '_' and '-', found {variant[:80]!r}.")
    return f"{engine}:{variant}"


def clean_label(file_name: str) -> str:
    """Return a file name made of harmless characters, at most 80 of them, its suffix kept."""
    label = _UNSAFE.sub("_", file_name.replace("\\", "/").rsplit("/", 1)[-1]).lstrip(".")
    if len(label) > _MAX_LABEL_CHARS:
        stem, suffix = label[:-12], label[-12:]
        label = stem[: _MAX_LABEL_CHARS - len(suffix)] + suffix
    return label or "weights"


def add_command(name: str, role: str | None = None) -> str:
    """Return the command that adds a missing file; `role` is included if the file could be mistaken for another one."""
    engine, variant = split_name(name)
    options = f" --engine {engine}" + (f" --name {variant}" if variant else "") + (f" --role {role}" if role else "")
    return f"lipwright models add FILE_OR_URL{options}"


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
    def lock(self) -> Iterator[None]:
        """Keep every other process from changing the store inside the block."""
        self._folder.mkdir(parents=True, exist_ok=True)
        with (self._folder / _LOCK).open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def replace(self, entries: list[WeightsEntry]) -> None:
        """Write the whole list; call it inside of `lock`."""
        ordered = sorted(entries, key=lambda entry: (entry.name, entry.role))
        payload = _Stored(entries=tuple(ordered)).model_dump_json(indent=2, by_alias=True).encode()
        partial = self._folder / f".{_FILE}.{secrets.token_hex(8)}.part"
        try:
            with partial.open("xb") as file:
                file.write(payload)
                file.flush()
                os.fsync(file.fileno())
            partial.replace(self._folder / _FILE)
        finally:
            partial.unlink(missing_ok=True)
