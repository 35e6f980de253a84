"""The torch definition of the network that maps speech features to the mouth: Lipwright's own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.mouth.shape import NUM_CHANNELS
from training.whisper_encoder import WIDTH

# Layers of Whisper's encoder that the features are made of.
TAPS = (2, 3)
NUM_FEATURES = len(TAPS) * WIDTH
# Longest stretch that the encoder is given: the windows of `models.speech.features`.
MAX_ROWS = 350
# The mouth shape in units of its scale, and a logit that says whether the lips touch.
NUM_OUTPUTS = NUM_CHANNELS + 1


class MouthTcn(nn.Module):
    """A small temporal convolution network over the features; it sees 16 rows (320 ms) to either side.

    Args:
        num_heads: 2 while it is trained: real talkers, and the table of phones, which teaches languages and closures
            but no real mouth. 1 in the shipped file.
        width: Channels inside.
    """

    _DILATIONS = (1, 2, 4, 8, 1)
    _DROPOUT = 0.25

    def __init__(self, num_heads: int = 1, width: int = 96) -> None:
        super().__init__()
        self.entry = nn.Conv1d(NUM_FEATURES, width, 1)
        self.spread = nn.ModuleList([nn.Conv1d(width, width, 3, padding=d, dilation=d) for d in self._DILATIONS])
        self.mix = nn.ModuleList([nn.Conv1d(width, width, 1) for _ in self._DILATIONS])
        self.head = nn.Conv1d(width, NUM_OUTPUTS * num_heads, 1)

    def forward(self, features: Tensor) -> Tensor:
        """Maps (B, N, F) features to (B, N, 9 * num_heads): mouth shape in units of its scale, and a contact logit."""
        out: Tensor = self.head(self.hidden(features))
        return out.transpose(1, 2)

    def hidden(self, features: Tensor) -> Tensor:
        """Maps (B, N, F) features to the last hidden layer, (B, width, N): what the head reads."""
        # While training, whole features are left out of a clip.
        x = self.entry(F.dropout1d(features.transpose(1, 2), self._DROPOUT, self.training))
        for spread, mix in zip(self.spread, self.mix, strict=True):
            x = x + mix(F.dropout(F.gelu(spread(x)), self._DROPOUT, self.training))
        return F.gelu(x)

    @torch.no_grad()
    def absorb(self, mean: Tensor, deviation: Tensor) -> None:
        """Makes a network for features in units of their `deviation` (F,) from their `mean` (F,) one for features."""
        self.entry.weight /= deviation[:, None]
        self.entry.bias -= self.entry.weight[..., 0] @ mean  # type: ignore[operator]

    def with_first_head(self, gain: Tensor) -> MouthTcn:
        """Returns the network with the first head alone, its eight channels multiplied by `gain` (8,)."""
        network = MouthTcn(num_heads=1, width=self.entry.out_channels)
        factor = torch.cat([gain, torch.ones(1)])
        state = self.state_dict()
        state["head.weight"] = state["head.weight"][:NUM_OUTPUTS] * factor[:, None, None]
        state["head.bias"] = state["head.bias"][:NUM_OUTPUTS] * factor
        network.load_state_dict(state)
        return network


class MouthEnsemble(nn.Module):
    """The mean of several `MouthTcn`."""

    def __init__(self, members: list[MouthTcn] | None = None) -> None:
        super().__init__()
        self.members = nn.ModuleList(members or [MouthTcn() for _ in range(NUM_MEMBERS)])

    @classmethod
    def from_state(cls, state: Mapping[str, Tensor]) -> MouthEnsemble:
        """Returns the network of a state dict, with as many members as that has, in evaluation mode."""
        num_members = len({name.split(".")[1] for name in state})
        network = cls([MouthTcn() for _ in range(num_members)])
        network.load_state_dict(state)
        return network.eval()

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Maps (B, N, F) features to the mouth, (B, N, 9), as `MouthTcn` does, and to (B, N, H), what it is read from.

        H are the last hidden layers of all members, divided so that inner products are the mean of the members'.
        """
        members = cast(Sequence[MouthTcn], self.members)
        layers = [member.hidden(features) for member in members]
        read = [member.head(layer) for member, layer in zip(members, layers, strict=True)]
        hidden = torch.cat(layers, 1) / len(layers) ** 0.5
        return torch.stack(read).mean(0).transpose(1, 2), hidden.transpose(1, 2)


NUM_MEMBERS = 3
