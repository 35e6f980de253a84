"""What the store knows of one file, and the names of engines, variants and files."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from errors import OptionError

_VARIANT: Final = re.compile(r"[a-z0-9][a-z0-9_.-]{0,31}")
# Of what is read back from the index, so that no entry leads out of the store's folder.
_NAME: Final = r"^[a-z0-9_-]+(:[a-z0-9][a-z0-9_.-]*)?$"
_ROLE: Final = r"^[a-z0-9_-]+$"
_LABEL: Final = r"^[A-Za-z0-9_()+-][A-Za-z0-9_.()+-]*$"
_LOCATION: Final = r"^\w[\w .()+@=-]*(/\w[\w .()+@=-]*)*$"
_UNSAFE: Final = re.compile(r"[^A-Za-z0-9_.()+-]+")
_MAX_LABEL_CHARS: Final = 80
_SUM_CHARS: Final = 16  # of the sha256, in file names


class Companion(BaseModel):
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
    companions: tuple[Companion, ...] = ()
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
        OptionError: The variant is no name.
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
    """Return the command that adds a missing file.

    Args:
        name: Engine and variant.
        role: Named where the file could be taken for another one.
    """
    engine, variant = split_name(name)
    options = f" --engine {engine}" + (f" --name {variant}" if variant else "") + (f" --role {role}" if role else "")
    return f"lipwright models add FILE_OR_URL{options}"
