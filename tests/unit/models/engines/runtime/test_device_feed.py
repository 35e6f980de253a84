from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from errors import ConfigError
from models.engines.protocol import ComputeResources
from models.engines.runtime.batching import fixed_batches
from models.engines.runtime.device_feed import DeviceFeed
from models.engines.runtime.torch_device import open_device, repeatable


def _twice_plus(a: Tensor, b: Tensor) -> Tensor:
    return a.float() * 2 + b


def _run(device: torch.device, feed: DeviceFeed, num: int) -> None:
    first = np.random.default_rng(num).integers(0, 255, (num, 64, 64), dtype=np.uint8)
    second = np.random.default_rng(num).random((num, 1, 1), np.float32)
    with repeatable():
        parts = list(feed.run(fixed_batches((first, second), 4), _twice_plus))
    assert np.array_equal(np.concatenate(parts), first.astype(np.float32) * 2 + second)


def test_device_feed_returns_batches_in_order() -> None:
    device = torch.device("cpu")
    feed = DeviceFeed(device)
    for num in (1, 4, 11):
        _run(device, feed, num)
    assert list(feed.run(iter(()), _twice_plus)) == []


@pytest.mark.needs_cuda
def test_device_feed_on_cuda_returns_batches_in_order() -> None:
    device = open_device(ComputeResources("cuda"))
    feed = DeviceFeed(device)
    for num in (1, 4, 5, 8, 33, 200):
        _run(device, feed, num)
    assert list(feed.run(iter(()), _twice_plus)) == []


def test_open_device_sets_num_threads_of_resources() -> None:
    before = torch.get_num_threads()
    try:
        assert open_device(ComputeResources("cpu", num_threads=2)).type == "cpu"
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_open_device_missing_cuda_raises_config_error() -> None:
    with pytest.raises(ConfigError, match="found none that PyTorch can use"):
        open_device(ComputeResources("cuda"))
