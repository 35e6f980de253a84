"""Folds DINet's normalisations into its convolutions: the same values in fewer passes over memory."""

from __future__ import annotations

from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from models.engines.dinet.original.blocks import ResBlock1d, ResBlock2d, SameBlock1d, SameBlock2d
from models.engines.dinet.original.network import DINet


def fold_norms(network: DINet) -> int:
    """Fold, in place, every normalisation that follows a convolution.

    The first of each residual block comes before its convolution and a ReLU, and stays.

    Args:
        network: In evaluation mode.

    Returns:
        How many were folded.
    """
    if network.training:
        raise ValueError("Expected a network in evaluation mode: in training its statistics are those of the batch.")
    num_folded = 0
    for block in list(network.modules()):
        if isinstance(block, SameBlock1d | SameBlock2d):
            num_folded += _fold(block, "conv", "norm")
        elif isinstance(block, ResBlock1d | ResBlock2d):
            num_folded += _fold(block, "conv1", "norm2")
    return num_folded


def _fold(block: nn.Module, convolution: str, norm: str) -> int:
    folded = fuse_conv_bn_eval(getattr(block, convolution), getattr(block, norm))
    setattr(block, convolution, folded)
    setattr(block, norm, nn.Identity())
    return 1
