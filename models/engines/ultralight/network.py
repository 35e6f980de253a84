"""The generator in PyTorch, with the parameter names of the published checkpoints.

Architecture: anliyuan/Ultralight-Digital-Human, unet.py: a U-Net of inverted residuals (Sandler et al., "MobileNetV2",
CVPR 2018, with expansion 2), whose lowest level is joined by ten by ten cells of sound.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import torch
from torch import Tensor, nn

from models.engines.ultralight.variant import Hears, Variant, published_name

_EXPANSION: Final = 2


class UltralightNetwork(nn.Module):
    """Picture and sound in, picture out.

    Args:
        hears: "hubert" or "wenet".
        num_frames: Video frames of sound: 8, or 16 of the older generation.
        width: Channels of the first layer: 32, or 16 with "hubert".
    """

    def __init__(self, hears: Hears = "hubert", num_frames: int = 8, width: int = 32) -> None:
        super().__init__()
        self.variant = Variant(hears, num_frames, width)
        channels = [width * 2**level for level in range(5)]
        self.audio_model = _Audio(self.variant, channels)
        self.fuse_conv = nn.Sequential(
            _DoubleConv(channels[4] * 2, channels[4]),
            _DoubleConv(channels[4], channels[3]),
        )
        self.inc = _Entrance(6, channels[0])
        self.down1 = _Down(channels[0], channels[1])
        self.down2 = _Down(channels[1], channels[2])
        self.down3 = _Down(channels[2], channels[3])
        self.down4 = _Down(channels[3], channels[4])
        self.up1 = _Up(channels[4], channels[2])
        self.up2 = _Up(channels[3], channels[1])
        self.up3 = _Up(channels[2], channels[0])
        self.up4 = _Up(channels[1], channels[0])
        self.outc = _Exit(channels[0])

    def forward(self, picture: Tensor, audio: Tensor) -> Tensor:
        """Rewrites the mouth.

        Args:
            picture: (B, 6, 160, 160) float BGR, 0 to 1: the reference in front, the masked frame behind.
            audio: (B, C, H, W) float, see `Variant.audio_shape`.

        Returns:
            (B, 3, 160, 160) float BGR, 0 to 1.
        """
        x1 = self.inc(picture)  # (B, 32, 160, 160)
        x2 = self.down1(x1)  # (B, 64, 80, 80)
        x3 = self.down2(x2)  # (B, 128, 40, 40)
        x4 = self.down3(x3)  # (B, 256, 20, 20)
        x5 = self.down4(x4)  # (B, 512, 10, 10)
        x = self.fuse_conv(torch.cat([x5, self.audio_model(audio)], 1))  # (B, 256, 10, 10)
        x = self.up1(x, x4)
        x = self.up2(x, x3)
        x = self.up3(x, x2)
        x = self.up4(x, x1)  # (B, 32, 160, 160)
        return torch.sigmoid(self.outc(x))


def published_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Brings older checkpoints to the names that `UltralightNetwork` has."""
    return {published_name(name): tensor for name, tensor in state.items()}


class _InvertedResidual(nn.Module):
    """Widen, filter each channel, narrow; added to its input where the shapes allow."""

    def __init__(self, num_in: int, num_out: int, stride: int = 1) -> None:
        super().__init__()
        wide = num_in * _EXPANSION
        self.is_residual = stride == 1 and num_in == num_out
        self.conv = nn.Sequential(
            nn.Conv2d(num_in, wide, 1, bias=False),
            nn.BatchNorm2d(wide),
            nn.ReLU(inplace=True),
            nn.Conv2d(wide, wide, 3, stride, 1, groups=wide, bias=False),
            nn.BatchNorm2d(wide),
            nn.ReLU(inplace=True),
            nn.Conv2d(wide, num_out, 1, bias=False),
            nn.BatchNorm2d(num_out),
        )

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv(x)
        return x + out if self.is_residual else out


class _DoubleConv(nn.Module):
    def __init__(self, num_in: int, num_out: int, stride: int = 1) -> None:
        super().__init__()
        self.double_conv = nn.Sequential(
            _InvertedResidual(num_in, num_out, stride),
            _InvertedResidual(num_out, num_out),
        )

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.double_conv(x)
        return out


class _Entrance(nn.Module):
    def __init__(self, num_in: int, num_out: int) -> None:
        super().__init__()
        self.inconv = _InvertedResidual(num_in, num_out)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.inconv(x)
        return out


class _Down(nn.Module):
    """Half the size. The published name speaks of a pooling that is not there."""

    def __init__(self, num_in: int, num_out: int) -> None:
        super().__init__()
        self.maxpool_conv = _DoubleConv(num_in, num_out, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.maxpool_conv(x)
        return out


class _Up(nn.Module):
    """Twice the size, joined by what the way down had there."""

    def __init__(self, num_in: int, num_out: int) -> None:
        super().__init__()
        self.up = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True)
        self.conv = _DoubleConv(num_in, num_out)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        out: Tensor = self.conv(torch.cat([self.up(x), skip], 1))
        return out


class _Exit(nn.Module):
    def __init__(self, num_in: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(num_in, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv(x)
        return out


class _Audio(nn.Module):
    """(B, C, H, W) of sound -> (B, 16 x width, 10, 10)."""

    def __init__(self, variant: Variant, channels: list[int]) -> None:
        super().__init__()
        heard = variant.audio_shape[0]
        # HuBERT's 32 x 32 halves in both directions, WeNet's 16 x 32 in one: both come to 16 x 16 and then to 10 x 10.
        is_hubert = variant.hears == "hubert"
        first, second = (channels[1], channels[2]) if is_hubert else (channels[3], channels[3])
        self.conv1 = _InvertedResidual(heard, first)
        self.conv2 = _InvertedResidual(first, second)
        self.conv3 = nn.Conv2d(second, channels[3], 3, (2, 2) if is_hubert else (1, 2), 1)
        self.bn3 = nn.BatchNorm2d(channels[3])
        self.conv4 = _InvertedResidual(channels[3], channels[3])
        self.conv5 = nn.Conv2d(channels[3], channels[4], 3, 2, 3)
        self.bn5 = nn.BatchNorm2d(channels[4])
        self.relu = nn.ReLU(inplace=True)
        self.conv6 = _InvertedResidual(channels[4], channels[4])
        self.conv7 = _InvertedResidual(channels[4], channels[4])

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv2(self.conv1(x))
        x = self.conv4(self.relu(self.bn3(self.conv3(x))))
        x = self.relu(self.bn5(self.conv5(x)))
        out: Tensor = self.conv7(self.conv6(x))
        return out
