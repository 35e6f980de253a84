"""Weights that nobody trained, of published architectures: the same in every run, noise on a face, real plumbing."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from models.engines.wav2lip.layers import expected_shapes


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


def save_wav2lip(path: Path, size: int = 96) -> Path:
    """Write a checkpoint as Wav2Lip's own are."""
    if size not in (96, 256):
        raise ValueError(f"Expected a network of 96 or 256 pixels, got {size}.")
    torch.save({"state_dict": made_up(expected_shapes(96 if size == 96 else 256))}, path)
    return path
