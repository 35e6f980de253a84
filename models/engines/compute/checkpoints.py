"""Reads the parameters of files that somebody else made: nothing in them is ever run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from errors import WeightsError
from models.engines.weights.file_kind import file_kind
from models.engines.weights.state_dict import bare_names, find_state_dict

if TYPE_CHECKING:
    from torch import Tensor

FileFormat = Literal["torch", "safetensors", "onnx"]

_FORMATS: Final[dict[str, FileFormat]] = {
    "torch zip": "torch",
    "torch pickle": "torch",
    "safetensors": "safetensors",
    "protobuf": "onnx",
}


def file_format(path: Path) -> FileFormat:
    """Say what kind of file it is, by its first bytes; its name does not matter.

    Raises:
        WeightsError: It is missing, or none of the known kinds.
    """
    try:
        with path.open("rb") as file:
            return _FORMATS[file_kind(file, path.stat().st_size)]
    except OSError as error:
        raise WeightsError(f"{path.name}: expected a file that can be read: {error.strerror}.") from error
    except WeightsError as error:
        raise WeightsError(f"{path.name}: {error}.") from error


def read_checkpoint(path: Path) -> dict[str, Tensor]:
    """Read the parameters of a torch checkpoint into memory.

    Wrappers and the prefix `module.` are taken off as by `models.engines.weights`. Only tensors and plain containers
    are unpickled (`weights_only`): a file that asks for anything else is refused, and nothing of it has run.

    Returns:
        Parameters by name, on the CPU.

    Raises:
        WeightsError: The file is missing, damaged, or holds something else than parameters.
    """
    import torch

    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged or hostile file makes the unpickler raise nearly anything
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise WeightsError(f"{path.name}: expected tensors alone, torch refuses it: {reason}") from error
    try:
        entries = bare_names(find_state_dict(loaded))
    except WeightsError as error:
        raise WeightsError(f"{path.name}: {error}.") from error
    found = {name: value for name, value in entries.items() if isinstance(value, torch.Tensor)}
    if not found:
        raise WeightsError(f"{path.name}: expected tensors by name, found none among {len(entries)} entries.")
    return found
