"""Which numbers a network computes in: half precision only where its own results say that nobody will see it.

What half precision costs depends on the weights, and the user brings those: with random weights the mouth of Wav2Lip
moves by a quarter of the whole range, with trained ones by far less. So it is decided when the weights are loaded, on
them, by what they give for some made-up faces. The decision depends on the weights and the processor alone: replicas on
like machines decide alike and give the same bytes.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal

import torch
from torch import Tensor

Precision = Literal["fp32", "auto"]
"""Full precision, or half where it is fast and differs little."""

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Tolerance:
    """How far a result in half precision may be from that in full, in its own units.

    Attributes:
        largest: Of the absolute difference of any value.
        mean: Of their mean.
    """

    largest: float
    mean: float


# Of pictures from 0 to 1, in 8-bit levels. A round trip between YUV 4:2:0 and RGB costs 1.2 on average and 6 at most
# (measured on 1080p video): half precision may cost about as much in single pixels, and less on average.
PICTURE: Final = Tolerance(largest=8 / 255, mean=0.5 / 255)


def half_precision(device: torch.device) -> torch.dtype | None:
    """Return the half precision in which a device computes faster than in float32, or None."""
    if device.type == "cuda":
        return torch.float16
    return torch.bfloat16 if torch.cpu._is_avx512_bf16_supported() else None


def choose_precision(
    run: Callable[[torch.dtype], Tensor], wanted: Precision, device: torch.device, tolerance: Tolerance = PICTURE
) -> torch.dtype:
    """Decide what a network computes in.

    Args:
        run: Computes the same samples in a precision.
        wanted: "fp32" asks nothing.
        device: Where it will run.
        tolerance: How far the results may be apart.

    Returns:
        torch.float32 or `half_precision(device)`.
    """
    half = half_precision(device) if wanted == "auto" else None
    if half is None:
        return torch.float32
    difference = (run(torch.float32).float() - run(half).float()).abs()
    largest, mean = float(difference.max()), float(difference.mean())
    # Written so that NaN, which is what an overflow ends in, is no agreement.
    agrees = largest <= tolerance.largest and mean <= tolerance.mean
    _LOG.info("%s differs by %.4f at most, %.5f on average: %s", half, largest, mean, "used" if agrees else "not used")
    return half if agrees else torch.float32
