"""The original DINet: the frame with its mouth masked, five reference frames and speech -> the frame with a mouth.

Structure and names of the parameters: MRzzm/DINet, models/DINet.py; see `models.engines.dinet.original.blocks`.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from models.engines.dinet.original.blocks import ResBlock1d, ResBlock2d, SameBlock1d, SameBlock2d
from models.engines.dinet.original.channel_warp import ChannelWarp


class Reference(NamedTuple):
    """What the network knows of the reference frames alone: it does not change with the frame or the speech."""

    features: Tensor
    """(1, 256, H / 4, W / 4)."""
    appearance: Tensor
    """(1, 256, H / 4, W / 4), what is warped."""


class DINet(nn.Module):
    """The published generator.

    Args:
        source_channel: Channels of the masked frame: 3.
        ref_channel: Channels of the reference frames together: 15 for five.
        audio_channel: Numbers a row of speech features: 29 (DeepSpeech's letters).
    """

    def __init__(self, source_channel: int = 3, ref_channel: int = 15, audio_channel: int = 29) -> None:
        super().__init__()
        self.source_in_conv = _entry(source_channel)
        self.ref_in_conv = _entry(ref_channel)
        self.trans_conv = nn.Sequential(
            SameBlock2d(512, 128),
            SameBlock2d(128, 128, 11),
            SameBlock2d(128, 128, 11),
            SameBlock2d(128, 128, stride=2),
            SameBlock2d(128, 128, 7),
            SameBlock2d(128, 128, 7),
            SameBlock2d(128, 128, stride=2),
            SameBlock2d(128, 128),
            SameBlock2d(128, 128, stride=2),
            SameBlock2d(128, 128),
            SameBlock2d(128, 128, stride=2),
        )
        self.audio_encoder = nn.Sequential(
            SameBlock1d(audio_channel, 128, 5),
            ResBlock1d(128),
            SameBlock1d(128, 128, stride=2),
            ResBlock1d(128),
            SameBlock1d(128, 128, stride=2),
            SameBlock1d(128, 128),
        )
        self.appearance_conv_list = nn.ModuleList(nn.Sequential(*(ResBlock2d(256) for _ in range(4))) for _ in range(2))
        self.adaAT = ChannelWarp(256, 256)
        self.out_conv = nn.Sequential(
            SameBlock2d(512, 128),
            SameBlock2d(128, 128, grow=2),
            ResBlock2d(128),
            SameBlock2d(128, 128, grow=2),
            nn.Conv2d(128, 3, 7, padding=3),
            nn.Sigmoid(),
        )

    def forward(self, source: Tensor, reference: Tensor, speech: Tensor) -> Tensor:
        """Make B frames.

        Args:
            source: (B, 3, H, W) float32 RGB in [0, 1], the mouth black; H and W are multiples of 4.
            reference: (B, 15, H, W) float32, five RGB frames one after the other, or (1, 15, H, W) for all.
            speech: (B, 29, 5) float32, five rows of features at 25 Hz around the frame.

        Returns:
            (B, 3, H, W) float32 RGB in [0, 1].
        """
        return self.speak(source, self.know(reference), speech)

    def know(self, reference: Tensor) -> Reference:
        """Look at (1, 15, H, W) reference frames, once for all frames of an avatar."""
        features = self.ref_in_conv(reference)
        return Reference(features, self.appearance_conv_list[0](features))

    def speak(self, source: Tensor, reference: Reference, speech: Tensor) -> Tensor:
        """Make frames as `forward` does of what `know` returned."""
        own = self.source_in_conv(source)  # (B, 256, H / 4, W / 4)
        seen = torch.cat([own, reference.features.expand(len(own), -1, -1, -1)], 1)
        place = self.trans_conv(seen).mean((2, 3))  # (B, 128)
        said = self.audio_encoder(speech).mean(2)  # (B, 128)
        warped = self.adaAT(reference.appearance, torch.cat([place, said], 1))
        painted: Tensor = self.out_conv(torch.cat([own, self.appearance_conv_list[1](warped)], 1))
        return painted


def _entry(num_in: int) -> nn.Sequential:
    return nn.Sequential(SameBlock2d(num_in, 64, 7), SameBlock2d(64, 128, stride=2), SameBlock2d(128, 256, stride=2))
