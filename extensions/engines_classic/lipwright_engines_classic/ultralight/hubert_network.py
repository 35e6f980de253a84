"""HuBERT large in PyTorch, with the parameter names of the published checkpoint.

Hsu et al., "HuBERT", 2021, in the form of transformers' `HubertModel` with the configuration of
facebook/hubert-large-ls960-ft: layer normalisation in the convolutions and in front of each block
(`feat_extract_norm` "layer", `do_stable_layer_norm`).
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from lipwright_engines_classic.ultralight.weights import bare_name
from models.engines.protocol import ComputeResources
from models.engines.runtime.checkpoints import load_parameters, read_checkpoint
from models.engines.runtime.torch_device import open_device, repeatable

_KERNELS: Final = (10, 3, 3, 3, 3, 2, 2)
_STRIDES: Final = (5, 2, 2, 2, 2, 2, 2)
_POSITION_KERNEL, _POSITION_GROUPS = 128, 16


@dataclass(frozen=True)
class HubertSize:
    """Size of the network; the defaults are HuBERT large."""

    num_layers: int = 24  # blocks of the transformer
    width: int = 1024  # numbers in a row
    num_heads: int = 16  # attention heads
    num_inner: int = 4096  # channels of the layer in the middle of a block
    num_channels: int = 512  # channels of the convolutions


class HubertNetwork(nn.Module):
    """(B, N) waves at 16 kHz -> (B, T, 1024), T = (N - 80) // 320."""

    def __init__(self, size: HubertSize = HubertSize()) -> None:  # noqa: B008 - frozen
        super().__init__()
        self.feature_extractor = _Convolutions(size)
        self.feature_projection = nn.Sequential(
            OrderedDict(layer_norm=nn.LayerNorm(size.num_channels), projection=nn.Linear(size.num_channels, size.width))
        )
        self.encoder = _Encoder(size)

    def forward(self, wave: Tensor) -> Tensor:
        """Return the last hidden state."""
        rows: Tensor = self.encoder(self.feature_projection(self.feature_extractor(wave)))
        return rows


class TorchHubert:
    """pytorch_model.bin of facebook/hubert-large-ls960-ft; a `lipwright_engines_classic.ultralight.hubert.WaveNetwork`.

    Raises:
        WeightsError: It is damaged or not HuBERT large.
        ConfigError: CUDA was requested but is not available.
    """

    def __init__(self, path: Path, resources: ComputeResources) -> None:
        self._device = open_device(resources)
        self._network = read_hubert(path).to(self._device)

    def __call__(self, wave: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return (T, 1024) float32 for (N,) float32."""
        with repeatable():
            rows = self._network(torch.from_numpy(wave).to(self._device)[None])[0]
        return np.asarray(rows.cpu().numpy(), np.float32)


def read_hubert(path: Path, size: HubertSize = HubertSize()) -> HubertNetwork:  # noqa: B008 - frozen
    """Read a checkpoint, on the CPU, in evaluation mode, without the layers for speech recognition.

    Raises:
        WeightsError: It is damaged or not a HuBERT of that size.
    """
    with torch.device("meta"):
        network = HubertNetwork(size)
    wanted = network.state_dict()
    parameters = {bare_name(name): tensor for name, tensor in read_checkpoint(path).items()}
    used = {name: tensor for name, tensor in parameters.items() if name in wanted}
    return load_parameters(network, used, "HuBERT large", path.name).requires_grad_(False)


class _Convolutions(nn.Module):
    def __init__(self, size: HubertSize) -> None:
        super().__init__()
        inputs = (1, *[size.num_channels] * (len(_KERNELS) - 1))
        self.conv_layers = nn.ModuleList(
            _Convolution(num_in, size.num_channels, kernel, stride)
            for num_in, kernel, stride in zip(inputs, _KERNELS, _STRIDES, strict=True)
        )

    def forward(self, wave: Tensor) -> Tensor:
        x = wave[:, None]  # (B, 1, N)
        for layer in self.conv_layers:
            x = layer(x)
        return x.transpose(1, 2)  # (B, T, 512)


class _Convolution(nn.Module):
    def __init__(self, num_in: int, num_out: int, kernel: int, stride: int) -> None:
        super().__init__()
        self.conv = nn.Conv1d(num_in, num_out, kernel, stride)
        self.layer_norm = nn.LayerNorm(num_out)

    def forward(self, x: Tensor) -> Tensor:
        x = self.layer_norm(self.conv(x).transpose(1, 2)).transpose(1, 2)
        return functional.gelu(x)


class _Encoder(nn.Module):
    def __init__(self, size: HubertSize) -> None:
        super().__init__()
        self.pos_conv_embed = _Position(size.width)
        self.layers = nn.ModuleList(_Block(size) for _ in range(size.num_layers))
        self.layer_norm = nn.LayerNorm(size.width)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.pos_conv_embed(x)
        for layer in self.layers:
            x = layer(x)
        out: Tensor = self.layer_norm(x)
        return out


class _Position(nn.Module):
    """Positional encoding by a wide convolution."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = _NormedConvolution(width)

    def forward(self, x: Tensor) -> Tensor:
        # An even kernel gives one row too many; the last one is dropped.
        return functional.gelu(self.conv(x.transpose(1, 2))[..., :-1]).transpose(1, 2)


class _NormedConvolution(nn.Module):
    """A convolution whose weights are directions `weight_v` of lengths `weight_g`, one per kernel position."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(width))
        self.weight_g = nn.Parameter(torch.ones(1, 1, _POSITION_KERNEL))
        self.weight_v = nn.Parameter(torch.randn(width, width // _POSITION_GROUPS, _POSITION_KERNEL))

    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight_g * self.weight_v / self.weight_v.norm(dim=(0, 1), keepdim=True)
        return functional.conv1d(x, weight, self.bias, padding=_POSITION_KERNEL // 2, groups=_POSITION_GROUPS)


class _Block(nn.Module):
    def __init__(self, size: HubertSize) -> None:
        super().__init__()
        self.attention = _Attention(size)
        self.layer_norm = nn.LayerNorm(size.width)
        self.feed_forward = nn.Sequential(
            OrderedDict(
                intermediate_dense=nn.Linear(size.width, size.num_inner),
                gelu=nn.GELU(),
                output_dense=nn.Linear(size.num_inner, size.width),
            )
        )
        self.final_layer_norm = nn.LayerNorm(size.width)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.layer_norm(x))
        out: Tensor = x + self.feed_forward(self.final_layer_norm(x))
        return out


class _Attention(nn.Module):
    def __init__(self, size: HubertSize) -> None:
        super().__init__()
        self.num_heads = size.num_heads
        self.k_proj, self.v_proj, self.q_proj, self.out_proj = (nn.Linear(size.width, size.width) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (self._heads(layer(x)) for layer in (self.q_proj, self.k_proj, self.v_proj))
        mixed = functional.scaled_dot_product_attention(q, k, v)  # (B, H, T, width / H)
        out: Tensor = self.out_proj(mixed.transpose(1, 2).flatten(2))
        return out

    def _heads(self, x: Tensor) -> Tensor:
        return x.reshape(*x.shape[:2], self.num_heads, -1).transpose(1, 2)
