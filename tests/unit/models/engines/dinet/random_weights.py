"""Weights that are a function of their names: large enough that every part of a network shows in its output."""

from __future__ import annotations

import zlib
from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.engines.dinet.network import DINet


def fill(network: DINet, statistics: Mapping[str, NDArray[np.generic]] | None = None) -> DINet:
    """Give a network weights by the names of its parameters, as ../shared/reference/check.py does.

    Args:
        network: Filled in place.
        statistics: Those of its normalisations; without them they stay 0 and 1.
    """
    filled = {name: _tensor(name, value, statistics or {}) for name, value in network.state_dict().items()}
    network.load_state_dict(filled)
    return network


def _tensor(name: str, value: Tensor, statistics: Mapping[str, NDArray[np.generic]]) -> Tensor:
    if name in statistics:
        return torch.from_numpy(np.array(statistics[name])).to(value.dtype)
    if name.endswith(("running_mean", "running_var", "num_batches_tracked")):
        return value
    made = np.random.RandomState(zlib.crc32(name.encode()))
    if value.ndim >= 2:
        bound = np.sqrt(6 / np.prod(value.shape[1:]))
        drawn = made.uniform(-bound, bound, value.shape)
    else:
        drawn = made.uniform(0.6, 1.4, value.shape) if name.endswith("weight") else made.uniform(-0.3, 0.3, value.shape)
    return torch.from_numpy(drawn.astype(np.float32))
