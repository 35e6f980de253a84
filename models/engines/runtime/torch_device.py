"""PyTorch on a replica: device, repeatable inference, precision and folded batch normalisation."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final, Literal

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from lipwright.errors import ConfigError
from models.engines.protocol import ComputeResources


def open_device(resources: ComputeResources) -> torch.device:
    """Set PyTorch up for what a replica may use.

    The number of threads applies to the whole process. It changes the last bits of float32 convolutions, so replicas
    that have to give the same bytes need the same number. A replica limits its GPU memory when it starts.

    Raises:
        ConfigError: CUDA was asked for and PyTorch finds none.
    """
    torch.set_num_threads(max(1, resources.num_threads))
    if resources.device == "cpu":
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise ConfigError("Expected a CUDA device, found none that PyTorch can use.")
    return torch.device("cuda", 0)


@contextmanager
def repeatable() -> Iterator[None]:
    """Inference whose bytes depend only on its input: no kernels chosen by timing, no TF32, no gradients.

    The settings belong to the process and stay: face generators of several engines run at once, and one that restored
    them would change them for the others too.
    """
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False
    with torch.inference_mode():
        yield


Precision = Literal["fp32", "auto"]
"""Full precision, or half where it is fast and differs little."""

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Tolerance:
    """How far a result in half precision may be from that in full, in its own units."""

    largest: float  # bound of the absolute difference of any value
    mean: float  # bound of the mean absolute difference


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
    """Decide what a network computes in: torch.float32, or `half_precision(device)` if its results differ little.

    What half precision costs depends on the weights, which the user adds: with random weights the mouth of Wav2Lip
    moves by a quarter of the whole range, with trained ones by far less. So the decision is made when weights are
    loaded, on their results for synthetic faces. It depends on the weights and the processor alone: replicas on equal
    machines decide equally and give the same bytes.

    Args:
        run: Computes the same samples in a precision.
        wanted: "fp32" skips the comparison.
        device: Where it will run.
        tolerance: Largest allowed difference of the results.
    """
    half = half_precision(device) if wanted == "auto" else None
    if half is None:
        return torch.float32
    difference = (run(torch.float32).float() - run(half).float()).abs()
    largest, mean = float(difference.max()), float(difference.mean())
    # Written so that NaN, the result of an overflow, counts as a difference.
    agrees = largest <= tolerance.largest and mean <= tolerance.mean
    _LOG.info("%s differs by %.4f at most, %.5f on average: %s", half, largest, mean, "used" if agrees else "not used")
    return half if agrees else torch.float32


_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


def fold_batch_norm(network: nn.Module) -> int:
    """Fold, in place, every normalisation that directly follows a convolution in a `Sequential`.

    The network computes the same values with fewer passes over memory.

    Return how many were folded. The network must be in evaluation mode.
    """
    if network.training:
        raise ValueError("Expected a network in evaluation mode: in training its statistics are those of the batch.")
    num_folded = 0
    for module in network.modules():
        if not isinstance(module, nn.Sequential):
            continue
        for i in range(len(module) - 1):
            convolution, norm = module[i], module[i + 1]
            if not isinstance(norm, nn.modules.batchnorm._BatchNorm):
                continue
            if isinstance(convolution, _CONVOLUTIONS):
                module[i] = fuse_conv_bn_eval(convolution, norm)
            elif isinstance(convolution, _TRANSPOSED):
                module[i] = fuse_conv_bn_eval(convolution, norm, transpose=True)
            else:
                continue
            module[i + 1] = nn.Identity()
            num_folded += 1
    return num_folded
