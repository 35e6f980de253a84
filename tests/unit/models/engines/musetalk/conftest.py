"""Small networks with seeded weights, of the same classes as the published ones."""

from __future__ import annotations

import zlib

import pytest
import torch
from torch import nn

from models.engines.musetalk.whisper_encoder import WhisperEncoder, WhisperShape

SMALL_WHISPER = WhisperShape(width=8, num_heads=2, num_layers=2)


def seed_weights(network: nn.Module) -> nn.Module:
    """Give a network weights that are a function of their names and shapes."""
    for name, tensor in network.state_dict().items():
        generator = torch.Generator().manual_seed(zlib.crc32(name.encode()))
        if not tensor.is_floating_point():
            continue
        if tensor.ndim < 2:  # norms and biases
            tensor.copy_(torch.rand(tensor.shape, generator=generator) * 0.2 + (0.9 if name.endswith("weight") else 0))
        else:
            bound = float(3 / tensor[0].numel()) ** 0.5
            tensor.copy_((torch.rand(tensor.shape, generator=generator) * 2 - 1) * bound)
    return network.eval()


@pytest.fixture(scope="session")
def small_whisper() -> WhisperEncoder:
    """An encoder of 8 channels."""
    network = WhisperEncoder(SMALL_WHISPER)
    seed_weights(network)
    return network
