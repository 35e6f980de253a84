"""The torch definition of the two speech networks that ship as ONNX files.

`SpeechEmbeddingTaps` is Google's speech_embedding network (Lin et al., "Training Keyword Spotters with Limited and
Synthesized Speech Data", ICASSP 2020; weights under Apache-2.0, as published by openWakeWord 0.4.0) run "a trous":
strides in time become dilations after the first pooling, so that one pass gives a vector every 20 ms instead of one per
window of 760 ms. Its weights are frozen. `MouthEnsemble` is Lipwright's own.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.mouth_shape import NUM_CHANNELS

NUM_BANDS = 32
NUM_FEATURES = 384
# Mel frames that the valid convolutions consume at each end.
_EDGE_FRAMES = 38


class SpeechEmbeddingTaps(nn.Module):
    """Log-mel frames -> the speech embedding and two of its inner layers, every 20 ms, centred."""

    # (output channels, dilation in time) of the four blocks of four convolutions.
    _BLOCKS = ((48, 1), (72, 1), (96, 2), (96, 2))

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 24, 3, padding=(0, 1), bias=False)
        self.scale = nn.Parameter(torch.ones(1, 24, 1, 1))
        self.shift = nn.Parameter(torch.zeros(1, 24, 1, 1))
        self.stem_pair = nn.ModuleList([_along_bands(24, 24), _along_time(24, 1)])
        self.blocks = nn.ModuleList()
        width = 24
        for channels, dilation in self._BLOCKS:
            first, second = _along_bands(width, channels), _along_bands(channels, channels)
            self.blocks.append(
                nn.ModuleList([first, _along_time(channels, dilation), second, _along_time(channels, dilation)])
            )
            width = channels
        self.embedding = nn.Conv2d(96, 96, (3, 1), dilation=(4, 1), bias=False)

    def forward(self, mel: Tensor) -> Tensor:
        """Computes the features.

        Args:
            mel: (B, T, 32) log-mel at 100 Hz, T even.

        Returns:
            (B, T / 2, 384): 192 of the fourth block, 96 of the fifth, 96 of the embedding divided by ten.
        """
        num_rows = mel.shape[1] // 2
        x = F.pad(mel.transpose(1, 2), (_EDGE_FRAMES, _EDGE_FRAMES), mode="replicate").transpose(1, 2)[:, None]
        x = _activate(F.relu(self.stem(x)) * self.scale + self.shift)  # (B, 24, T + 74, 32)
        x = F.max_pool2d(_convolve(self.stem_pair, x), (2, 2))
        x = F.max_pool2d(_convolve(self.blocks[0], x), (1, 2))
        x = F.max_pool2d(_convolve(self.blocks[1], x), (2, 2), stride=(1, 2))
        x = F.max_pool2d(_convolve(self.blocks[2], x), (1, 2))  # (B, 96, rows + 18, 2)
        early = x[:, :, 9 : 9 + num_rows]
        x = _convolve(self.blocks[3], x)
        late = F.max_pool2d(x, (1, 2))[:, :, 5 : 5 + num_rows]
        x = F.max_pool2d(x, (2, 2), stride=(1, 2), dilation=(2, 1))
        embedding = self.embedding(x)[:, :, :num_rows]
        return torch.cat([_as_rows(early), _as_rows(late), _as_rows(embedding)], 2)


class MouthTcn(nn.Module):
    """A small temporal convolution network over the features; it sees 16 rows (320 ms) to either side."""

    _DILATIONS = (1, 2, 4, 8, 1)

    def __init__(self, width: int = 96) -> None:
        super().__init__()
        self.entry = nn.Conv1d(NUM_FEATURES, width, 1)
        self.spread = nn.ModuleList([nn.Conv1d(width, width, 3, padding=d, dilation=d) for d in self._DILATIONS])
        self.mix = nn.ModuleList([nn.Conv1d(width, width, 1) for _ in self._DILATIONS])
        self.head = nn.Conv1d(width, NUM_CHANNELS + 1, 1)

    def forward(self, features: Tensor) -> Tensor:
        """Maps (B, N, 384) features to (B, N, 9): the mouth shape in units of its scale, and a contact logit."""
        x = self.entry(features.transpose(1, 2))
        for spread, mix in zip(self.spread, self.mix, strict=True):
            x = x + mix(F.gelu(spread(x)))
        out: Tensor = self.head(F.gelu(x))
        return out.transpose(1, 2)


class MouthEnsemble(nn.Module):
    """The mean of several `MouthTcn`."""

    def __init__(self, num_members: int = 2) -> None:
        super().__init__()
        self.members = nn.ModuleList([MouthTcn() for _ in range(num_members)])

    def forward(self, features: Tensor) -> Tensor:
        """Maps (B, N, 384) features to (B, N, 9), as `MouthTcn` does."""
        return torch.stack([member(features) for member in self.members]).mean(0)


def _along_bands(channels_in: int, channels_out: int) -> nn.Conv2d:
    return nn.Conv2d(channels_in, channels_out, (1, 3), padding=(0, 1))


def _along_time(channels: int, dilation: int) -> nn.Conv2d:
    return nn.Conv2d(channels, channels, (3, 1), dilation=(dilation, 1))


def _activate(x: Tensor) -> Tensor:
    return torch.clamp(F.leaky_relu(x, 0.2), min=-0.4)


def _convolve(layers: nn.Module, x: Tensor) -> Tensor:
    for layer in layers.children():
        x = _activate(layer(x))
    return x


def _as_rows(x: Tensor) -> Tensor:
    return x.permute(0, 2, 1, 3).flatten(2)  # (B, C, N, bands) -> (B, N, C * bands)
