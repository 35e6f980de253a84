"""The first layers of Whisper's encoder, in torch, with weights read out of a CTranslate2 file.

Radford et al., "Robust Speech Recognition via Large-Scale Weak Supervision", 2022 (https://github.com/openai/whisper,
`whisper/model.py`); weights base, MIT licence, Copyright (c) 2022 OpenAI. The format of `model.bin` is that of
CTranslate2 (https://github.com/OpenNMT/CTranslate2, `python/ctranslate2/specs/model_spec.py`). The weights are frozen.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

NUM_BANDS = 80
WIDTH, NUM_HEADS = 512, 8
# Codes of the element types in a CTranslate2 file.
_DTYPES = {0: np.float32, 1: np.int8, 2: np.int16, 3: np.int32, 4: np.float16}


class EncoderLayer(nn.Module):
    """One pre-norm transformer layer."""

    def __init__(self) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(WIDTH)
        self.qkv = nn.Linear(WIDTH, 3 * WIDTH)
        self.out = nn.Linear(WIDTH, WIDTH)
        self.mlp_norm = nn.LayerNorm(WIDTH)
        self.grow = nn.Linear(WIDTH, 4 * WIDTH)
        self.shrink = nn.Linear(4 * WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        """Maps (B, N, 512) to (B, N, 512)."""
        x = x + self.out(self._attend(self.qkv(self.attention_norm(x))))
        changed: Tensor = x + self.shrink(F.gelu(self.grow(self.mlp_norm(x))))
        return changed

    def _attend(self, qkv: Tensor) -> Tensor:
        batch, rows = qkv.shape[0], qkv.shape[1]
        heads = qkv.view(batch, rows, 3, NUM_HEADS, WIDTH // NUM_HEADS).permute(2, 0, 3, 1, 4)
        scores = heads[0] @ heads[1].transpose(-1, -2) * (WIDTH // NUM_HEADS) ** -0.5  # (B, 8, N, N)
        return (torch.softmax(scores, -1) @ heads[2]).transpose(1, 2).reshape(batch, rows, WIDTH)


class WhisperTaps(nn.Module):
    """Whisper's log-mel frames -> the outputs of its convolutions and of chosen layers, every 20 ms.

    Args:
        taps: Numbers of the layers whose outputs are returned, in order: 0 are the convolutions with the positions
            added, 1 the first layer. Layers after the last one are left out.
        max_rows: Longest input, in rows.
    """

    def __init__(self, taps: tuple[int, ...], max_rows: int) -> None:
        super().__init__()
        self.taps = taps
        self.conv1 = nn.Conv1d(NUM_BANDS, WIDTH, 3, padding=1)
        self.conv2 = nn.Conv1d(WIDTH, WIDTH, 3, stride=2, padding=1)
        self.positions = nn.Parameter(torch.zeros(max_rows, WIDTH))
        self.layers = nn.ModuleList([EncoderLayer() for _ in range(max(taps))])

    def forward(self, mel: Tensor) -> Tensor:
        """Computes the features.

        Args:
            mel: (B, T, 80) log-mel at 100 Hz as `models.speech.features` makes it, T even, at most 2 * max_rows.

        Returns:
            (B, T / 2, 512 * len(taps)).
        """
        x = F.gelu(self.conv1(mel.transpose(1, 2)))
        x = F.gelu(self.conv2(x)).transpose(1, 2)  # (B, T / 2, 512)
        outputs = [x + self.positions[: x.shape[1]]]
        for layer in self.layers:
            outputs.append(layer(outputs[-1]))
        return torch.cat([outputs[tap] for tap in self.taps], 2)


def load_whisper(path: Path, network: WhisperTaps) -> None:
    """Fills `network` with the weights of a CTranslate2 `model.bin` of Whisper base or base.en.

    Raises:
        ValueError: The file is not such a model.
    """
    stored = _read_arrays(path)
    if "encoder/conv1/weight" not in stored:
        raise ValueError(f"Expected a Whisper model in {path.name}, found {sorted(stored)[:3]}.")
    names = {"conv1": "conv1", "conv2": "conv2"}
    for number in range(len(network.layers)):
        attention, mlp = f"layer_{number}/self_attention", f"layer_{number}/ffn"
        names |= {f"layers.{number}.{ours}": theirs for ours, theirs in _layer_names(attention, mlp)}
    state = {"positions": stored["encoder/position_encodings/encodings"][: len(network.positions)]}
    for ours, theirs in names.items():
        weight, bias = ("gamma", "beta") if theirs.endswith("layer_norm") else ("weight", "bias")
        state[f"{ours}.weight"] = stored[f"encoder/{theirs}/{weight}"]
        state[f"{ours}.bias"] = stored[f"encoder/{theirs}/{bias}"]
    network.load_state_dict({name: torch.tensor(array, dtype=torch.float32) for name, array in state.items()})


def _layer_names(attention: str, mlp: str) -> list[tuple[str, str]]:
    return [
        ("attention_norm", f"{attention}/layer_norm"),
        ("qkv", f"{attention}/linear_0"),
        ("out", f"{attention}/linear_1"),
        ("mlp_norm", f"{mlp}/layer_norm"),
        ("grow", f"{mlp}/linear_0"),
        ("shrink", f"{mlp}/linear_1"),
    ]


def _read_arrays(path: Path) -> dict[str, NDArray[np.generic]]:
    arrays: dict[str, NDArray[np.generic]] = {}
    with path.open("rb") as file:
        (version,) = _read(file, "I")
        if version != 6:
            raise ValueError(f"Expected a CTranslate2 file of version 6 in {path.name}, got {version = }.")
        _read_string(file)  # the name of the specification
        _read(file, "I")  # its revision
        (num_arrays,) = _read(file, "I")
        for _ in range(num_arrays):
            name = _read_string(file)
            (rank,) = _read(file, "B")
            shape = _read(file, f"{rank}I")
            code, num_bytes = _read(file, "BI")
            arrays[name] = np.frombuffer(file.read(num_bytes), _DTYPES[code]).reshape(shape)
    return arrays


def _read(file: BinaryIO, layout: str) -> tuple[int, ...]:
    return struct.unpack(f"<{layout}", file.read(struct.calcsize(f"<{layout}")))


def _read_string(file: BinaryIO) -> str:
    (length,) = _read(file, "H")
    return file.read(length)[:-1].decode()
