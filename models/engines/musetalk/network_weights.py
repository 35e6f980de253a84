"""Gives a network the weights of a file: exactly those that it has."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor, nn

from errors import WeightsError


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
