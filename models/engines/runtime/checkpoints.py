"""Reads files with weights that somebody else made: nothing in them is ever run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from errors import WeightsError
from models.engines.weights.formats import Kind, bare_names, file_kind, find_state_dict

if TYPE_CHECKING:
    from torch import Tensor

FileFormat = Literal["torch", "safetensors", "onnx"]

_FORMATS: Final[dict[Kind, FileFormat]] = {
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
    return _FORMATS[_kind(path)]


def read_checkpoint(path: Path) -> dict[str, Tensor]:
    """Read the parameters in a torch checkpoint or a safetensors file.

    Wrappers and the prefix `module.` are taken off as by `models.engines.weights`. Only tensors and plain containers
    are unpickled (`weights_only`): a file that asks for anything else is refused, and nothing of it has run. Archives
    and safetensors are mapped into memory, so that large networks are not held twice on their way to a device.

    Returns:
        Parameters by name, on the CPU; not to be written to.

    Raises:
        WeightsError: The file is missing, damaged, or holds something else than parameters.
    """
    import torch

    kind = _kind(path)
    try:
        loaded = _load_safetensors(path) if kind == "safetensors" else _load_torch(path, kind)
    except Exception as error:  # a damaged or hostile file makes the unpickler raise nearly anything
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise WeightsError(f"{path.name}: expected tensors alone, they cannot be read: {reason}") from error
    try:
        entries = bare_names(find_state_dict(loaded))
    except WeightsError as error:
        raise WeightsError(f"{path.name}: {error}.") from error
    found = {name: value for name, value in entries.items() if isinstance(value, torch.Tensor)}
    if not found:
        raise WeightsError(f"{path.name}: expected tensors by name, found none among {len(entries)} entries.")
    return found


def _kind(path: Path) -> Kind:
    try:
        with path.open("rb") as file:
            return file_kind(file, path.stat().st_size)
    except OSError as error:
        raise WeightsError(f"{path.name}: expected a file that can be read: {error.strerror}.") from error
    except WeightsError as error:
        raise WeightsError(f"{path.name}: {error}.") from error


def _load_safetensors(path: Path) -> dict[str, Tensor]:
    from safetensors.torch import load_file

    loaded: dict[str, Tensor] = load_file(path)
    return loaded


def _load_torch(path: Path, kind: Kind) -> object:
    import torch

    return torch.load(path, map_location="cpu", weights_only=True, mmap=kind == "torch zip")
