"""A value for every parameter of a network, from its name alone."""

from __future__ import annotations

import zlib
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn


def made_up(shapes: Mapping[str, tuple[int, ...]], gain: float = 0.7) -> dict[str, Tensor]:
    """Return a value for every parameter; each depends on its name and shape alone.

    Args:
        shapes: Shapes by name.
        gain: Of matrices and kernels. At .7 networks paint grey shades, at 1 black and white.
    """
    parameters = {}
    for name, shape in shapes.items():
        random = np.random.RandomState(zlib.crc32(name.encode()) & 0x7FFFFFFF)
        if len(shape) >= 2:
            bound = gain * np.sqrt(6 / np.prod(shape[1:]))
            values = random.uniform(-bound, bound, shape)
        elif name.endswith(("weight", "running_var")):
            values = random.uniform(0.7, 1.3, shape)
        else:
            values = random.uniform(-0.2, 0.2, shape)
        parameters[name] = torch.from_numpy(np.asarray(values, np.float32))
    return parameters


def shapes_of(network: nn.Module) -> dict[str, tuple[int, ...]]:
    """Return the shapes of what inference uses of a network, which may lie on the meta device."""
    state = network.state_dict()
    return {name: tuple(tensor.shape) for name, tensor in state.items() if not name.endswith("num_batches_tracked")}
