"""AdaAT: every channel of a feature map is turned, scaled and shifted by itself.

The published layer samples the (C, H, W) block in three dimensions, where the third is the channel. Its grid spans
[-1, 1] from the first channel to the last, read by a sampler whose [-1, 1] spans their outer edges: channel k of the
output lies at k * C / (C - 1) - 0.5, between two channels of the input and, at both ends, half outside. Sampling is
linear, so the same is had by mixing the two channels first and by sampling the mixture in two dimensions, which costs
a fraction.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_PI = 3.14159  # as published


class ChannelWarp(nn.Module):
    """The published `AdaAT` (MRzzm/DINet, models/DINet.py).

    Args:
        num_params: P numbers that steer it.
        num_channels: C channels.
    """

    def __init__(self, num_params: int, num_channels: int) -> None:
        super().__init__()
        self.num_channels = num_channels
        self.commn_linear = nn.Sequential(nn.Linear(num_params, num_params), nn.ReLU())
        self.scale = nn.Sequential(nn.Linear(num_params, num_channels), nn.Sigmoid())
        self.rotation = nn.Sequential(nn.Linear(num_params, num_channels), nn.Tanh())
        self.translation = nn.Sequential(nn.Linear(num_params, 2 * num_channels), nn.Tanh())

    def forward(self, features: Tensor, params: Tensor) -> Tensor:
        """Warp (B or 1, C, H, W) features by (B, P) parameters, in full precision: (B, C, H, W) float32.

        Places in half precision would be off by more than a pixel of the picture.
        """
        with torch.autocast(features.device.type, enabled=False):
            return self._warp(features.float(), params.float())

    def _warp(self, features: Tensor, params: Tensor) -> Tensor:
        height, width = features.shape[-2:]
        grid = self._grid(params, height, width)  # (B * C, H, W, 2)
        mixed = mix_channels(features).expand(len(params), -1, -1, -1)
        planes = mixed.reshape(-1, 1, height, width)  # (B * C, 1, H, W)
        sampled = F.grid_sample(planes, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
        return sampled.view(len(params), self.num_channels, height, width)

    def _grid(self, params: Tensor, height: int, width: int) -> Tensor:
        shared = self.commn_linear(params)
        scale = self.scale(shared) * 2  # (B, C)
        angle = self.rotation(shared) * _PI
        shift = self.translation(shared).view(-1, 2)  # (B * C, 2)
        cosine, sine = (scale * angle.cos()).view(-1), (scale * angle.sin()).view(-1)
        rows = torch.stack([cosine, -sine, shift[:, 0], sine, cosine, shift[:, 1]], 1).view(-1, 2, 3)
        x = torch.linspace(-1, 1, width, dtype=params.dtype, device=params.device)
        y = torch.linspace(-1, 1, height, dtype=params.dtype, device=params.device)
        places = torch.stack([x.expand(height, -1), y[:, None].expand(-1, width)], -1).view(-1, 2)  # (H * W, 2)
        turned = places @ rows[:, :, :2].transpose(1, 2) + rows[:, None, :, 2]  # (B * C, H * W, 2)
        return turned.view(-1, height, width, 2)


def mix_channels(features: Tensor) -> Tensor:
    """Reads (B, C, H, W) at the C channel places of the published grid, see this module."""
    num = features.shape[1]
    place = torch.arange(num, dtype=torch.float32, device=features.device) * num / (num - 1) - 0.5
    below = place.floor()
    share = (place - below)[:, None, None].to(features.dtype)
    padded = F.pad(features, (0, 0, 0, 0, 1, 1))  # a channel of zeros at either end
    index = below.long() + 1
    return padded[:, index] * (1 - share) + padded[:, index + 1] * share
