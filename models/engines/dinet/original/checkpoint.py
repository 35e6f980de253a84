"""Makes the network of the original DINet's checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from errors import WeightsError
from models.engines.compute.checkpoints import read_checkpoint
from models.engines.dinet.original.network import DINet
from models.engines.dinet.roles import DINET_TENSORS

_COUNTER: Final = "num_batches_tracked"  # of no use once trained, and missing in some files


def load_dinet(path: Path) -> DINet:
    """Load a generator.

    Args:
        path: The .pth file: ["state_dict"]["net_g"], either wrapper may be missing.

    Returns:
        The network on the CPU, in evaluation mode.

    Raises:
        WeightsError: The file is missing, cannot be read without running code, or is not DINet.
    """
    found = read_checkpoint(path)
    network = DINet()
    expected = {name: value for name, value in network.state_dict().items() if not name.endswith(_COUNTER)}
    # The telling ones first, so that the message speaks of the architecture.
    for name in (*DINET_TENSORS, *expected):
        shape = tuple(found[name].shape) if name in found else None
        if shape != tuple(expected[name].shape):
            said = list(shape) if shape is not None else "none"
            raise WeightsError(f"{path.name}: expected DINet with {name} {list(expected[name].shape)}, found {said}.")
    tensors = {name: value.float() for name, value in found.items() if not name.endswith(_COUNTER)}
    if unknown := sorted(set(tensors) - set(expected)):
        raise WeightsError(f"{path.name}: expected DINet alone, found {len(unknown)} more tensors, as {unknown[0]}.")
    network.load_state_dict(tensors, strict=False)
    return network.eval().requires_grad_(False)
