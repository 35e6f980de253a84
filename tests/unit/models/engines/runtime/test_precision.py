from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from models.engines.runtime.torch_device import Tolerance, choose_precision, half_precision

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
def test_choose_precision_close_results_use_half() -> None:
    assert choose_precision(_off_by(0.002), "auto", CPU) == torch.bfloat16


@has_half
@pytest.mark.parametrize(("difference", "num"), [(0.1, 1), (0.01, 100), (float("nan"), 1), (float("inf"), 1)])
def test_choose_precision_large_difference_uses_fp32(difference: float, num: int) -> None:
    assert choose_precision(_off_by(difference, num), "auto", CPU) == torch.float32


@has_half
def test_choose_precision_applies_given_tolerance() -> None:
    assert choose_precision(_off_by(0.1), "auto", CPU, Tolerance(0.2, 0.01)) == torch.bfloat16


def test_choose_precision_fp32_runs_nothing() -> None:
    def run(dtype: torch.dtype) -> Tensor:
        raise AssertionError(f"computed in {dtype}")

    assert choose_precision(run, "fp32", CPU) == torch.float32


def test_half_precision_on_cuda_is_float16() -> None:
    assert half_precision(torch.device("cuda")) == torch.float16
