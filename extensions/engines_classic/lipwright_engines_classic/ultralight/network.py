"""The Ultralight generator as a PyTorch module: its layers, how a checkpoint is loaded, and its input and output.

Architecture: anliyuan/Ultralight-Digital-Human, unet.py: a U-Net of inverted residuals (Sandler et al., "MobileNetV2",
CVPR 2018, with expansion 2), whose lowest level is joined by ten by ten cells of sound.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import torch
from torch import Tensor, nn

from lipwright.errors import WeightsError
from lipwright_engines_classic.ultralight.engine import MASK_COLUMNS, MASK_ROWS
from lipwright_engines_classic.ultralight.weights import (
    AudioKind,
    Variant,
    published_name,
    unknown_variant,
    variant_of_tensors,
)
from models.engines.runtime.checkpoints import load_parameters, read_checkpoint, shapes_of
from models.engines.weights.recognition import tensors_mismatch

_EXPANSION: Final = 2
_TITLE: Final = "an Ultralight generator"


class UltralightNetwork(nn.Module):
    """Takes an image and audio features, returns an image.

    Args:
        audio_kind: "hubert" or "wenet".
        num_frames: Video frames of sound: 8, or 16 of the older generation.
        width: Channels of the first layer: 32, or 16 with "hubert".
    """

    def __init__(self, audio_kind: AudioKind = "hubert", num_frames: int = 8, width: int = 32) -> None:
        super().__init__()
        self.variant = Variant(audio_kind, num_frames, width)
        channels = [width * 2**level for level in range(5)]
        self.audio_model = _Audio(self.variant, channels)
        self.fuse_conv = nn.Sequential(
            _double_conv(channels[4] * 2, channels[4]),
            _double_conv(channels[4], channels[3]),
        )
        self.inc = _wrap("inconv", _InvertedResidual(6, channels[0]))
        self.down1 = _down(channels[0], channels[1])
        self.down2 = _down(channels[1], channels[2])
        self.down3 = _down(channels[2], channels[3])
        self.down4 = _down(channels[3], channels[4])
        self.up1 = _Up(channels[4], channels[2])
        self.up2 = _Up(channels[3], channels[1])
        self.up3 = _Up(channels[2], channels[0])
        self.up4 = _Up(channels[1], channels[0])
        self.outc = _wrap("conv", nn.Conv2d(channels[0], 3, 1))

    def forward(self, picture: Tensor, audio: Tensor) -> Tensor:
        """Rewrite the mouth.

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
    """Map the names of older checkpoints to those of `UltralightNetwork`."""
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


def _wrap(name: str, module: nn.Module) -> nn.Sequential:
    """A module in a separate container, as in the published parameter names."""
    return nn.Sequential(OrderedDict({name: module}))


def _double_conv(num_in: int, num_out: int, stride: int = 1) -> nn.Sequential:
    layers = _InvertedResidual(num_in, num_out, stride), _InvertedResidual(num_out, num_out)
    return _wrap("double_conv", nn.Sequential(*layers))


def _down(num_in: int, num_out: int) -> nn.Sequential:
    """Halve the size. There is no pooling, despite the published name."""
    return _wrap("maxpool_conv", _double_conv(num_in, num_out, stride=2))


class _Up(nn.Module):
    """Doubles the size and concatenates the skip connection."""

    def __init__(self, num_in: int, num_out: int) -> None:
        super().__init__()
        self.up = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True)
        self.conv = _double_conv(num_in, num_out)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        out: Tensor = self.conv(torch.cat([self.up(x), skip], 1))
        return out


class _Audio(nn.Module):
    """(B, C, H, W) of audio features -> (B, 16 x width, 10, 10)."""

    def __init__(self, variant: Variant, channels: list[int]) -> None:
        super().__init__()
        heard = variant.audio_shape[0]
        # HuBERT's 32 x 32 halves in both directions, WeNet's 16 x 32 in one: both come to 16 x 16 and then to 10 x 10.
        is_hubert = variant.audio_kind == "hubert"
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


def parameters_mismatch(shapes: Mapping[str, tuple[int, ...]], variant: Variant) -> str | None:
    """Return how the shapes of parameters, by today's names, differ from those of a variant; None if they do not."""
    return tensors_mismatch(_TITLE, shapes_of(_without_values(variant)), shapes)


def load_network(path: Path) -> UltralightNetwork:
    """Read a checkpoint of either generation, plain or under `model`, on the CPU, in evaluation mode.

    Raises:
        WeightsError: It is damaged or not a generator of this family.
    """
    parameters = published_names(read_checkpoint(path))
    shapes = {name: tuple(tensor.shape) for name, tensor in parameters.items()}
    variant = variant_of_tensors(shapes)
    if variant is None:
        raise WeightsError(f"{path.name}: {unknown_variant(shapes)}.")
    return load_parameters(_without_values(variant), parameters, _TITLE, path.name).requires_grad_(False)


def _without_values(variant: Variant) -> UltralightNetwork:
    with torch.device("meta"):
        return UltralightNetwork(variant.audio_kind, variant.num_frames, variant.width)


def picture_input(faces: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """Return (B, 6, 160, 160), 0 to 1, of (B, 160, 160, 3) uint8 BGR: unmasked, then with the mouth masked.

    The reference is the frame itself, as in inference.py; in training it was another frame of the same person.
    """
    # Channels last in memory: the order of the image, and the one in which convolutions are fastest.
    seen = torch.empty((*faces.shape[:3], 6), dtype=dtype, device=faces.device)
    seen[..., :3] = faces.float() / 255
    seen[..., 3:] = seen[..., :3]
    seen[:, MASK_ROWS, MASK_COLUMNS, 3:] = 0
    return seen.permute(0, 3, 1, 2)


def rgb_levels(generated: Tensor) -> Tensor:
    """Round (B, 3, H, W) BGR from 0 to 1 to (B, H, W, 3) uint8 RGB."""
    levels = (generated.float() * 255).round_().clamp_(0, 255).to(torch.uint8)
    return levels.flip(1).permute(0, 2, 3, 1).contiguous()
