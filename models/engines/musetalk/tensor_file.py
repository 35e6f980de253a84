"""Reads the tensors of a weights file without running anything that stands in it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor, nn

from errors import WeightsError

# Where files keep their tensors: training checkpoints in `state_dict`, OpenAI's Whisper in `model_state_dict`.
_WRAPPERS: Final = ("state_dict", "model_state_dict")
_ZIP = b"PK\x03\x04"
_MAX_SAFETENSORS_HEADER = 100 * 1024 * 1024  # the bound of the format's own reader


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read a safetensors file or a torch file, told by their content.

    Returns:
        Tensors on the CPU by name, without wrappers and without the prefix `module.`.

    Raises:
        WeightsError: The file cannot be read, or holds anything but tensors.
    """
    try:
        stored = _read_safetensors(path) if _is_safetensors(path) else _read_torch(path)
    except Exception as error:  # torch and safetensors raise classes of many kinds
        reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        raise WeightsError(f"Expected tensors in {path.name}, found what cannot be read as such: {reason}") from error
    for wrapper in _WRAPPERS:
        if isinstance(stored, Mapping) and isinstance(stored.get(wrapper), Mapping):
            stored = stored[wrapper]
    tensors = {str(name).removeprefix("module."): value for name, value in _items(stored) if isinstance(value, Tensor)}
    if not tensors:
        raise WeightsError(f"Expected tensors by name in {path.name}, found none.")
    return tensors


def fill(network: nn.Module, tensors: Mapping[str, Tensor], path: Path) -> None:
    """Give a network its weights: exactly those that it has, in their shapes.

    Args:
        network: On the meta device or any other; its tensors become those of the file, without a copy.
        tensors: By the names of the network.
        path: For the message.

    Raises:
        WeightsError: A tensor is missing, too many, or has another shape.
    """
    wanted = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    found = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    if wanted != found:
        raise WeightsError(f"{path.name}: {_difference(wanted, found)}")
    network.load_state_dict({name: tensor.float() for name, tensor in tensors.items()}, assign=True)


def _difference(wanted: Mapping[str, tuple[int, ...]], found: Mapping[str, tuple[int, ...]]) -> str:
    for name, shape in wanted.items():
        if found.get(name) != shape:
            return f"expected {name} {shape}, found {found.get(name, 'none of that name')}"
    extra = next(name for name in found if name not in wanted)
    return f"expected {len(wanted)} tensors, found {len(found)}, such as {extra} {found[extra]}"


def _is_safetensors(path: Path) -> bool:
    """A little-endian 64-bit length of the header, then the header, which is JSON."""
    with path.open("rb") as file:
        start = file.read(9)
    return len(start) == 9 and start[8:] == b"{" and int.from_bytes(start[:8], "little") < _MAX_SAFETENSORS_HEADER


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    from safetensors.torch import load_file

    tensors: dict[str, Tensor] = load_file(path)
    return tensors


def _read_torch(path: Path) -> Any:
    with path.open("rb") as file:
        is_zip = file.read(4) == _ZIP
    # Mapped where the format allows it: a U-Net of 3.4 GB is then not held twice while it is read.
    return torch.load(path, map_location="cpu", weights_only=True, mmap=is_zip)


def _items(stored: Any) -> list[tuple[Any, Any]]:
    return list(stored.items()) if isinstance(stored, Mapping) else []
