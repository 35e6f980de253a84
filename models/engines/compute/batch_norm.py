"""Folds batch normalisation into the convolutions before it: the same values, fewer passes over memory."""

from __future__ import annotations

from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


def fold_batch_norm(network: nn.Module) -> int:
    """Fold, in place, every normalisation that directly follows a convolution in a `Sequential`.

    Args:
        network: In evaluation mode.

    Returns:
        How many were folded.
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
