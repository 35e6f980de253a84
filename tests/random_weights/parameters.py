"""Reproducible values for all parameters of a network.

The modules beside this one write weights files as users would add them. They have the published architectures and sizes
where these are quick to create and to run. For face restoration it is a small ONNX graph with the published inputs and
outputs.
"""

import zlib
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor


def made_up(shapes: Mapping[str, tuple[int, ...]], gain: float = 0.7) -> dict[str, Tensor]:
    """Returns a value for every parameter, which depends only on its name and shape.

    With a gain of .7 for matrices and kernels generators output shades of grey, with 1 black and white.
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
