from __future__ import annotations

import pytest
import torch
from torch import nn

from models.engines.runtime.torch_device import fold_batch_norm


def _network() -> nn.Sequential:
    torch.manual_seed(3)
    network = nn.Sequential(
        nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU()),
        nn.Sequential(nn.ConvTranspose2d(8, 4, 3, stride=2), nn.BatchNorm2d(4)),
        nn.Sequential(nn.Conv2d(4, 4, 1, bias=False), nn.BatchNorm2d(4)),
        nn.BatchNorm2d(4),
    )
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None and module.running_var is not None
            module.running_mean.uniform_(-1, 1)
            module.running_var.uniform_(0.5, 2)
    return network.eval()


def test_fold_batch_norm_keeps_values_and_removes_layers() -> None:
    network, x = _network(), torch.rand(2, 3, 7, 7)
    with torch.inference_mode():
        before = network(x)
        assert fold_batch_norm(network) == 3
        after = network(x)
    assert (after - before).abs().max() < 1e-5
    # The last one follows no convolution of its own block.
    assert sum(isinstance(module, nn.BatchNorm2d) for module in network.modules()) == 1


def test_fold_batch_norm_training_mode_raises() -> None:
    with pytest.raises(ValueError, match="evaluation mode"):
        fold_batch_norm(_network().train())
