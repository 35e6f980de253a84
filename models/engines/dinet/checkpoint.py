"""Loads the original DINet's checkpoint without running anything that is in it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from errors import WeightsError
from models.engines.dinet.network import DINet
from models.engines.dinet.roles import DINET_TENSORS

# Where the published checkpoint keeps the generator, and the prefix that training on several GPUs leaves.
_WRAPPERS: Final = ("state_dict", "net_g")
_PREFIX: Final = "module."
_COUNTER: Final = "num_batches_tracked"  # of no use once trained, and missing in some files


def load_dinet(path: Path) -> DINet:
    """Load a generator.

    Args:
        path: The .pth file: ["state_dict"]["net_g"], either wrapper may be missing.

    Returns:
        The network on the CPU, ready to be used.

    Raises:
        WeightsError: The file is missing, cannot be read without running code, or is not DINet.
    """
    if not path.is_file():
        raise WeightsError(f"Expected the network {path.name}, the file does not exist.")
    try:
        stored = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # the unpickler and the zip reader raise what they like
        said = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise WeightsError(
            f"Expected a torch checkpoint of tensors in {path.name}, it cannot be read: {said}"
        ) from error
    tensors = _tensors(stored, path)
    network = DINet().eval()
    _check(tensors, network.state_dict(), path)
    network.load_state_dict({**_counters(network), **tensors})
    return network.requires_grad_(False)


def _tensors(stored: Any, path: Path) -> dict[str, Tensor]:
    for wrapper in _WRAPPERS:
        if isinstance(stored, Mapping) and wrapper in stored:
            stored = stored[wrapper]
    if not isinstance(stored, Mapping):
        raise WeightsError(f"{path.name}: expected a state dict of DINet, found {type(stored).__name__}.")
    return {
        str(name).removeprefix(_PREFIX): value.float() if value.is_floating_point() else value
        for name, value in stored.items()
        if isinstance(value, Tensor)
    }


def _check(found: Mapping[str, Tensor], expected: Mapping[str, Tensor], path: Path) -> None:
    needed = {name for name in expected if not name.endswith(_COUNTER)}
    # The telling ones first, so that the message speaks of the architecture.
    for name in (*DINET_TENSORS, *sorted(needed)):
        shape = tuple(found[name].shape) if name in found else None
        if shape != tuple(expected[name].shape):
            said = list(shape) if shape is not None else "none"
            raise WeightsError(f"{path.name}: expected DINet with {name} {list(expected[name].shape)}, found {said}.")
    if unknown := sorted(set(found) - set(expected)):
        raise WeightsError(
            f"{path.name}: expected the tensors of DINet, found {len(unknown)} more, such as {unknown[0]}."
        )


def _counters(network: DINet) -> dict[str, Tensor]:
    return {name: value for name, value in network.state_dict().items() if name.endswith(_COUNTER)}
