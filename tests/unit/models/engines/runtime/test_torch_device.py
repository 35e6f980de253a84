from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from models.engines.runtime.torch_device import Tolerance, choose_precision, fold_batch_norm, half_precision


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


CPU = torch.device("cpu")
has_half = pytest.mark.skipif(half_precision(CPU) is None, reason="this processor has no fast bfloat16")


def _off_by(difference: float, num: int = 1) -> Callable[[torch.dtype], Tensor]:
    def run(dtype: torch.dtype) -> Tensor:
        result = torch.full((100,), 0.5)
        if dtype != torch.float32:
            result[:num] += difference
        return result

    return run


@has_half
@pytest.mark.parametrize(
    ("difference", "num", "tolerance", "expected"),
    [
        (0.002, 1, None, torch.bfloat16),
        *((difference, 1, None, torch.float32) for difference in (0.1, float("nan"), float("inf"))),
        (0.01, 100, None, torch.float32),
        (0.1, 1, Tolerance(0.2, 0.01), torch.bfloat16),
    ],
)
def test_choose_precision_auto_uses_half_within_tolerance(
    difference: float, num: int, tolerance: Tolerance | None, expected: torch.dtype
) -> None:
    given = () if tolerance is None else (tolerance,)
    assert choose_precision(_off_by(difference, num), "auto", CPU, *given) == expected


def test_choose_precision_fp32_runs_nothing() -> None:
    def run(dtype: torch.dtype) -> Tensor:
        raise AssertionError(f"computed in {dtype}")

    assert choose_precision(run, "fp32", CPU) == torch.float32
    assert half_precision(torch.device("cuda")) == torch.float16
