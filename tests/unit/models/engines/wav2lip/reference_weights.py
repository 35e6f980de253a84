"""The weights under which shared/reference was made: a pure function of a parameter's name and shape."""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn


def reference_parameters(network: nn.Module, stored: Any) -> dict[str, Tensor]:
    """Every entry of a network's state; statistics of batch normalisation lie in the file, as bn/NAME."""
    return {name: _entry(name, tensor, stored) for name, tensor in network.state_dict().items()}


def _entry(name: str, tensor: Tensor, stored: Any) -> Tensor:
    if name.endswith(("running_mean", "running_var")):
        return torch.from_numpy(np.array(stored[f"bn/{name}"]))
    if name.endswith("num_batches_tracked"):
        return torch.tensor(1000)
    random = np.random.RandomState(zlib.crc32(name.encode()))
    if tensor.ndim > 1:
        bound = np.sqrt(6 / np.prod(tensor.shape[1:]))
    low, high = (-bound, bound) if tensor.ndim > 1 else (0.6, 1.4) if name.endswith("weight") else (-0.3, 0.3)
    return torch.from_numpy(random.uniform(low, high, tuple(tensor.shape)).astype(np.float32))
