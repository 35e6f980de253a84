"""The generator in PyTorch, with the parameter names of the published checkpoints."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from models.engines.wav2lip.layers import (
    OUTPUT_CHANNELS,
    OUTPUT_UNIT,
    Block,
    Size,
    Unit,
    audio_encoder,
    face_decoder,
    face_encoder,
)


class Wav2LipNetwork(nn.Module):
    """Paints mouths that fit to speech.

    Args:
        size: Side S of the pictures: 96, or 256 for the variant of the live services.
    """

    def __init__(self, size: Size) -> None:
        super().__init__()
        self.size = size
        self.face_encoder_blocks = nn.ModuleList(_sequence(block) for block in face_encoder(size))
        self.audio_encoder = _sequence(audio_encoder())
        self.face_decoder_blocks = nn.ModuleList(_sequence(block) for block in face_decoder(size))
        last = nn.Conv2d(OUTPUT_UNIT.channels_out, OUTPUT_CHANNELS, 1)
        self.output_block = nn.Sequential(_ConvUnit(OUTPUT_UNIT), last, nn.Sigmoid())

    def forward(self, mel: Tensor, face: Tensor) -> Tensor:
        """Paint a batch.

        Args:
            mel: (B, 1, 80, 16) what is said, -4 to 4.
            face: (B, 6, S, S) the faces in BGR, 0 to 1: with their lower half black, then as they are.

        Returns:
            (B, 3, S, S) the faces in BGR, 0 to 1.
        """
        seen = []
        for block in self.face_encoder_blocks:
            face = block(face)
            seen.append(face)
        x: Tensor = self.audio_encoder(mel)  # (B, 512, 1, 1)
        for block in self.face_decoder_blocks:
            x = torch.cat((block(x), seen.pop()), 1)
        painted: Tensor = self.output_block(x)
        return painted


class _ConvUnit(nn.Module):
    def __init__(self, unit: Unit) -> None:
        super().__init__()
        self._is_residual = unit.kind == "residual"
        self.conv_block = nn.Sequential(_convolution(unit), nn.BatchNorm2d(unit.channels_out))

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.conv_block(x)
        if self._is_residual:
            result += x
        return result.relu_()


def _convolution(unit: Unit) -> nn.Module:
    ends = unit.channels_in, unit.channels_out, unit.kernel, unit.stride
    if unit.kind != "transposed":
        return nn.Conv2d(*ends, padding=unit.padding)
    # The first step of the decoder fills a square from one point; the others double it.
    return nn.ConvTranspose2d(*ends, padding=unit.padding, output_padding=1 if unit.stride == (2, 2) else 0)


def _sequence(block: Block) -> nn.Sequential:
    return nn.Sequential(*(_ConvUnit(unit) for unit in block))
