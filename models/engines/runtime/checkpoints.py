"""Reads weights files of unknown origin without running any code in them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, TypeVar

from lipwright.errors import WeightsError
from models.engines.weights.formats import Kind, bare_names, file_kind, find_state_dict
from models.engines.weights.recognition import Shape, tensors_mismatch, without_counters

if TYPE_CHECKING:
    from torch import Tensor, nn

NetworkT = TypeVar("NetworkT", bound="nn.Module")

FileFormat = Literal["torch", "safetensors", "onnx"]

_FORMATS: Final[dict[Kind, FileFormat]] = {
    "torch zip": "torch",
    "torch pickle": "torch",
    "safetensors": "safetensors",
    "protobuf": "onnx",
}


def file_format(path: Path) -> FileFormat:
    """Return what kind of file it is, by its first bytes; its name does not matter.

    Raises:
        WeightsError: It is missing, or none of the known kinds.
    """
    return _FORMATS[_kind(path)]


def read_checkpoint(path: Path) -> dict[str, Tensor]:
    """Read the parameters in a torch checkpoint or a safetensors file.

    Wrappers and the prefix `module.` are taken off as by `models.engines.weights`. Only tensors and plain containers
    are unpickled (`weights_only`): a file that asks for anything else is refused before any of it runs. Archives and
    safetensors are mapped into memory, so that large networks are not in memory twice while they are moved to a device.

    Returns:
        Parameters by name, on the CPU; not to be written to.

    Raises:
        WeightsError: The file is missing, damaged, or contains something other than parameters.
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


def shapes_of(network: nn.Module) -> dict[str, Shape]:
    """Return the shapes of the tensors that a network needs for inference, by name."""
    return without_counters({name: tuple(tensor.shape) for name, tensor in network.state_dict().items()})


def load_parameters(network: NetworkT, parameters: Mapping[str, Tensor], title: str, file_name: str) -> NetworkT:
    """Load parameters into a network, as float32 on the CPU, and put it in evaluation mode.

    Args:
        network: On the meta device: its values come from `parameters`, where possible without a copy.
        parameters: By the names of the network.
        title: What the file should hold, for messages.
        file_name: Name of the file, for messages.

    Raises:
        WeightsError: A tensor is missing, unexpected, or has another shape.
    """
    import torch

    found = {name: tuple(tensor.shape) for name, tensor in parameters.items()}
    wanted = shapes_of(network)
    if mismatch := tensors_mismatch(title, wanted, found):
        raise WeightsError(f"{file_name}: {mismatch}.")
    counters = {name: torch.tensor(0) for name in network.state_dict() if name not in wanted}
    network.load_state_dict({**{name: parameters[name].float() for name in wanted}, **counters}, assign=True)
    return network.eval()


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
