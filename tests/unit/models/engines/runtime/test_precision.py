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
