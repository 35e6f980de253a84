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
def test_half_is_used_where_it_hardly_differs() -> None:
    assert choose_precision(_off_by(0.002), "auto", CPU) == torch.bfloat16


@has_half
@pytest.mark.parametrize(("difference", "num"), [(0.1, 1), (0.01, 100), (float("nan"), 1), (float("inf"), 1)])
def test_half_is_refused_where_it_shows(difference: float, num: int) -> None:
    assert choose_precision(_off_by(difference, num), "auto", CPU) == torch.float32


@has_half
def test_the_bounds_are_those_that_are_given() -> None:
    assert choose_precision(_off_by(0.1), "auto", CPU, Tolerance(0.2, 0.01)) == torch.bfloat16


def test_full_precision_is_not_asked_for_twice() -> None:
    def run(dtype: torch.dtype) -> Tensor:
        raise AssertionError(f"computed in {dtype}")

    assert choose_precision(run, "fp32", CPU) == torch.float32


def test_a_gpu_computes_in_float16() -> None:
    assert half_precision(torch.device("cuda")) == torch.float16
