"""The original DINet: the frame with its mouth masked, five reference frames and speech -> the frame with a mouth.

Structure: Zhang et al., "DINet: Deformation Inpainting Network for Realistic Face Visually Dubbing on High Resolution
Video", AAAI 2023; names and sizes of the parameters as in MRzzm/DINet, models/DINet.py.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def same_block(
    num_in: int, num_out: int, kernel: int = 3, stride: int = 1, *, grow: int = 1, is_1d: bool = False
) -> nn.Sequential:
    """Convolution, normalisation, ReLU over (B, C, H, W), or (B, C, T) where `is_1d`.

    `stride` 2 halves the sides, `grow` 2 doubles them first.
    """
    convolution, norm = (nn.Conv1d, nn.BatchNorm1d) if is_1d else (nn.Conv2d, nn.BatchNorm2d)
    layers: dict[str, nn.Module] = {"grow": nn.Upsample(scale_factor=grow)} if grow > 1 else {}
    layers |= {
        "conv": convolution(num_in, num_out, kernel, stride, kernel // 2),
        "norm": norm(num_out),
        "relu": nn.ReLU(),
    }
    return nn.Sequential(OrderedDict(layers))


class ResBlock(nn.Sequential):
    """Two convolutions, each after its normalisation and ReLU, added to the input; shapes as in `same_block`."""

    def __init__(self, num: int, *, is_1d: bool = False) -> None:
        convolution, norm = (nn.Conv1d, nn.BatchNorm1d) if is_1d else (nn.Conv2d, nn.BatchNorm2d)
        layers: dict[str, nn.Module] = {}
        for number in (1, 2):
            layers |= {f"norm{number}": norm(num), f"relu{number}": nn.ReLU()}
            layers |= {f"conv{number}": convolution(num, num, 3, padding=1)}
        super().__init__(OrderedDict(layers))

    def forward(self, x: Tensor) -> Tensor:
        """Return the input's shape."""
        inner = x
        for layer in self:
            inner = layer(inner)
        return x + inner


_PI = 3.14159  # as published


class ChannelWarp(nn.Module):
    """The published `AdaAT` (MRzzm/DINet, models/DINet.py): P numbers rotate, scale and shift each of C channels.

    The published layer samples the (C, H, W) block in three dimensions, the third being the channel. Its grid spans
    [-1, 1] from the first channel to the last, but the sampler's [-1, 1] spans their outer edges: channel k of the
    output lies at k * C / (C - 1) - 0.5, between two channels of the input and, at both ends, half outside. Sampling is
    linear, so `mix_channels` followed by sampling in two dimensions gives the same at a fraction of the cost.
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

        Positions in half precision would be off by more than a pixel.
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
    """Read (B, C, H, W) at the C channel places of the published grid; see `ChannelWarp`."""
    num = features.shape[1]
    place = torch.arange(num, dtype=torch.float32, device=features.device) * num / (num - 1) - 0.5
    below = place.floor()
    share = (place - below)[:, None, None].to(features.dtype)
    padded = F.pad(features, (0, 0, 0, 0, 1, 1))  # a channel of zeros at either end
    index = below.long() + 1
    return padded[:, index] * (1 - share) + padded[:, index + 1] * share


class Reference(NamedTuple):
    """What the network derives from the reference frames alone; independent of the frame and the speech.

    Attributes:
        features: (1, 256, H / 4, W / 4).
        appearance: (1, 256, H / 4, W / 4), what is warped.
    """

    features: Tensor
    appearance: Tensor


class DINet(nn.Module):
    """The published generator: the masked frame, five reference frames, and 29 letters of DeepSpeech per row."""

    def __init__(self) -> None:
        super().__init__()
        self.source_in_conv = _entry(3)
        self.ref_in_conv = _entry(5 * 3)
        self.trans_conv = nn.Sequential(
            same_block(512, 128),
            same_block(128, 128, 11),
            same_block(128, 128, 11),
            same_block(128, 128, stride=2),
            same_block(128, 128, 7),
            same_block(128, 128, 7),
            same_block(128, 128, stride=2),
            same_block(128, 128),
            same_block(128, 128, stride=2),
            same_block(128, 128),
            same_block(128, 128, stride=2),
        )
        self.audio_encoder = nn.Sequential(
            same_block(29, 128, 5, is_1d=True),
            ResBlock(128, is_1d=True),
            same_block(128, 128, stride=2, is_1d=True),
            ResBlock(128, is_1d=True),
            same_block(128, 128, stride=2, is_1d=True),
            same_block(128, 128, is_1d=True),
        )
        self.appearance_conv_list = nn.ModuleList(nn.Sequential(*(ResBlock(256) for _ in range(4))) for _ in range(2))
        self.adaAT = ChannelWarp(256, 256)
        self.out_conv = nn.Sequential(
            same_block(512, 128),
            same_block(128, 128, grow=2),
            ResBlock(128),
            same_block(128, 128, grow=2),
            nn.Conv2d(128, 3, 7, padding=3),
            nn.Sigmoid(),
        )

    def forward(self, source: Tensor, reference: Tensor, speech: Tensor) -> Tensor:
        """Generate B frames.

        Args:
            source: (B, 3, H, W) float32 RGB in [0, 1], the mouth black; H and W are multiples of 4.
            reference: (B, 15, H, W) float32, five RGB frames one after the other, or (1, 15, H, W) for all.
            speech: (B, 29, 5) float32, five rows of features at 25 Hz around the frame.

        Returns:
            (B, 3, H, W) float32 RGB in [0, 1].
        """
        return self.speak(source, self.know(reference), speech)

    def know(self, reference: Tensor) -> Reference:
        """Encode (1, 15, H, W) reference frames, once for all frames of an avatar."""
        features = self.ref_in_conv(reference)
        return Reference(features, self.appearance_conv_list[0](features))

    def speak(self, source: Tensor, reference: Reference, speech: Tensor) -> Tensor:
        """Generate frames as `forward` does, from what `know` returned."""
        own = self.source_in_conv(source)  # (B, 256, H / 4, W / 4)
        seen = torch.cat([own, reference.features.expand(len(own), -1, -1, -1)], 1)
        place = self.trans_conv(seen).mean((2, 3))  # (B, 128)
        said = self.audio_encoder(speech).mean(2)  # (B, 128)
        warped = self.adaAT(reference.appearance, torch.cat([place, said], 1))
        generated: Tensor = self.out_conv(torch.cat([own, self.appearance_conv_list[1](warped)], 1))
        return generated


def _entry(num_in: int) -> nn.Sequential:
    return nn.Sequential(same_block(num_in, 64, 7), same_block(64, 128, stride=2), same_block(128, 256, stride=2))
