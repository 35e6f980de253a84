"""Weights and pictures under which shared/reference was made: functions of names, shapes and seeds alone."""

import zlib
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

CELL = 32  # pixels
Network = TypeVar("Network", bound=nn.Module)


def fill(network: Network, stored: Any = None) -> Network:
    """Give a network weights by the names of its parameters, as ../shared/reference/check.py does, in place.

    The statistics of its normalisations lie in `stored` as bn/NAME; without it they stay 0 and 1. The names and shapes
    of the published network, which `stored` also holds, have to be those of this one.
    """
    statistics = {}
    if stored is not None:
        shapes = {name: ",".join(map(str, value.shape)) for name, value in network.state_dict().items()}
        assert shapes == dict(zip(stored["keys"].tolist(), stored["shapes"].tolist(), strict=True))
        statistics = {name[3:]: stored[name] for name in stored.files if name[:3] == "bn/"}
    network.load_state_dict({name: _tensor(name, value, statistics) for name, value in network.state_dict().items()})
    return network


def _tensor(name: str, value: Tensor, statistics: dict[str, NDArray[Any]]) -> Tensor:
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


def random_pictures(num: int, height: int, width: int, seed: int) -> NDArray[np.uint8]:
    """(N, H, W, 3) BGR: bilinear between random colours, in whole numbers."""
    random = np.random.RandomState(seed)
    y, x = np.arange(height), np.arange(width)
    down, right = (y % CELL)[:, None, None], (x % CELL)[None, :, None]
    pictures = []
    for _ in range(num):
        colours = random.randint(0, 256, (height // CELL + 2, width // CELL + 2, 3)).astype(np.int64)
        upper, lower = colours[y // CELL], colours[y // CELL + 1]
        above = upper[:, x // CELL] * (CELL - right) + upper[:, x // CELL + 1] * right
        below = lower[:, x // CELL] * (CELL - right) + lower[:, x // CELL + 1] * right
        pictures.append((above * (CELL - down) + below * down) // CELL**2)
    return np.stack(pictures).astype(np.uint8)
